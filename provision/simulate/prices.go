package simulate

import "github.com/samnode/samnode/provision"

// ListPrices are offers of Hetzner's types at the locations, with the net prices
// of September 2026 an hour, an IPv4 address included. They are for where nobody
// can say today's, and for comparing policies over the years.
func ListPrices(locations []string) []provision.Offer {
	var offers []provision.Offer
	for _, l := range locations {
		for _, t := range []struct {
			name string
			cpus int
			gib  int64
			hour provision.Money
		}{
			{"cax11", 2, 4, 10_400},
			{"cax21", 4, 8, 17_600},
			{"ccx13", 2, 8, 69_700},
			{"cpx12", 1, 2, 19_200},
			{"cpx22", 2, 4, 32_000},
			{"cpx32", 4, 8, 57_700},
			{"cx23", 2, 4, 9_600},
			{"cx33", 4, 8, 14_400},
			{"cx43", 8, 16, 26_400},
		} {
			offers = append(offers, provision.Offer{Type: t.name, Location: l, CPUs: t.cpus, Mem: t.gib << 30, Hour: t.hour, Orderable: true})
		}
	}
	return offers
}
