package hetzner

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

// offer is that of a type at a location.
func (d *desk) offer(kind, location string) provision.Offer {
	d.Helper()
	all, err := d.Offers(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	i := slices.IndexFunc(all, func(o provision.Offer) bool { return o.Type == kind && o.Location == location })
	if i < 0 {
		d.Fatalf("no %s in %s among %d offers", kind, location, len(all))
	}
	return all[i]
}

func TestR14OrderableIsWhatTheLocationSays(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		o := d.offer("cx23", "nbg1")
		want := provision.Offer{Type: "cx23", Location: "nbg1", Arch: "amd64", CPUs: 2, Mem: 4 << 30, Disk: 40e9, Hour: o.Hour, Month: o.Month, Orderable: true}
		if o != want {
			d.Errorf("offer = %+v, want %+v", o, want)
		}
		if arm := d.offer("cax11", "hel1"); arm.Arch != "arm64" {
			d.Errorf("arch = %s, want arm64", arm.Arch)
		}
		// It has a price and no end, and cannot be had.
		if o := d.offer("cpx11", "fsn1"); o.Orderable || o.Leaving != "" || o.Hour <= 0 {
			d.Errorf("offer = %+v, want one that cannot be had", o)
		}
		if o := d.offer("cx22", "fsn1"); o.Orderable || !strings.Contains(o.Leaving, "1 January 2026") {
			d.Errorf("offer = %+v, want one that leaves", o)
		}
		d.cloud.SellOut("cx23", "nbg1", true)
		if here, there := d.offer("cx23", "nbg1"), d.offer("cx23", "fsn1"); here.Orderable || !there.Orderable || here.Hour != o.Hour {
			d.Errorf("offers = %+v and %+v", here, there)
		}
		d.cloud.Heal()
		if o := d.offer("cx23", "nbg1"); !o.Orderable {
			d.Errorf("offer = %+v, want one that can be had again", o)
		}
		if n := d.calls("GET /v1/datacenters"); n != 0 {
			d.Errorf("%d calls of what Hetzner took away", n)
		}
	})
}

// What an offer says is what Hetzner bills, its address included.
func TestR33PricesAreHetzners(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		o := d.offer("cx23", "nbg1")
		d.mustCreate()
		bill := d.cloud.Bills()[0]
		if o.Hour != bill.Cost || o.Month != 599*provision.Euro/100 {
			d.Errorf("an hour costs %s and a month %s; the bill says %s and 5.99 €", o.Hour, o.Month, bill.Cost)
		}
	})
	list := `{"server_types":[{"id":1,"name":"a","cores":1,"memory":1.5,"disk":20,"architecture":"riscv",
	 "locations":[{"id":2,"name":"nbg1","available":true},{"id":3,"name":"hel1","available":true},{"id":1,"name":"fsn1","available":true}],
	 "prices":[{"location":"nbg1","price_hourly":{"net":"1.0000004","gross":"9"},"price_monthly":{"net":"600","gross":"9"}},
	  {"location":"fsn1","price_hourly":{"net":"a lot","gross":"9"},"price_monthly":{"net":"600","gross":"9"}}]}],
	 "meta":{"pagination":{"page":1,"per_page":50,"previous_page":null,"next_page":null,"last_page":1,"total_entries":1}}}`
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.Fault{On: "GET /server_types", Status: 200, Body: list})
		all, err := d.Offers(d.Context())
		want := provision.Offer{Type: "a", Location: "nbg1", Arch: "riscv", CPUs: 1, Mem: 3 << 29, Disk: 20e9, Hour: 1_000_801, Month: 600_500_000, Orderable: true}
		if err != nil || len(all) != 1 || all[0] != want {
			d.Errorf("Offers = %+v, %v, want %+v alone", all, err, want)
		}
		if log := d.log.String(); strings.Count(log, "left out an offer") != 2 {
			d.Errorf("the log does not tell of two that were left out:\n%s", log)
		}
		d.cloud.Break(hetznertest.Fault{On: "GET /pricing", Times: 1, Status: 200, Body: `{"pricing":{"currency":"USD"}}`})
		_, err = d.Offers(d.Context())
		d.refused(err, provision.BadOrder, `"USD"`, "pays in euro")
		d.cloud.Break(hetznertest.Fault{On: "GET /pricing", Times: 1, Status: 200, Body: `{"pricing":{"currency":"EUR"}}`})
		_, err = d.Offers(d.Context())
		d.refused(err, provision.Unreachable, "samnode asks again")
	})
}

func TestMoneyIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]provision.Money{
		"0": 0, "1": provision.Euro, "5.99": 5_990_000, "0.0096": 9600, "0.0000004999": 0, "0.0000005": 1, "12.3456789012": 12_345_679,
		"999999999.9999999": 1_000_000_000_000_000, "1.": provision.Euro,
		"": -1, ".5": -1, "-1": -1, "1e3": -1, "1,5": -1, "1.2.3": -1, "0x1": -1, "1 ": -1, "9999999999": -1, "½": -1,
	} {
		got, err := money(s)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("money(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
}

func TestR24AddressesGoWithTheirServer(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		s := d.mustCreate()
		if all, _ := d.cloud.Addresses(); all != 2 {
			d.Fatalf("%d addresses", all)
		}
		if err := d.Delete(d.Context(), s.ID); err != nil {
			d.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if all, loose := d.cloud.Addresses(); all != 0 || loose != 0 {
			d.Errorf("%d addresses are left, %d of them without a server", all, loose)
		}
	})
}

func TestR24AddressesThatStayBehindAreSwept(t *testing.T) {
	t.Parallel()
	bench{cloud: hetznertest.Config{DeleteTime: -1}}.run(t, func(d *desk) {
		sweep := func() []string {
			d.Helper()
			gone, err := d.SweepAddresses(d.Context())
			if err != nil {
				d.Error(err)
			}
			return gone
		}
		s := d.mustCreate()
		stranger := d.cloud.Put("db", nil)
		d.cloud.Loosen(stranger.ID) // a person's, with no label of ours
		if _, err := d.Create(d.Context(), order("01J0000000000000000000OP02", 1)); err != nil {
			d.Fatal(err)
		}
		d.cloud.Loosen(d.cloud.Ever()[0].ID)
		if gone := sweep(); len(gone) != 0 {
			d.Errorf("swept %v, which are new", gone)
		}
		time.Sleep(addressGrace)
		d.cloud.Break(hetznertest.Fault{On: "DELETE /primary_ips/*", Times: 1, Status: 423, Code: "locked"})
		gone, err := d.SweepAddresses(d.Context())
		d.refused(err, provision.Busy)
		if len(gone) != 1 {
			d.Errorf("swept %v, want the one that is not locked", gone)
		}
		if gone := sweep(); len(gone) != 1 {
			d.Errorf("swept %v, want the other one", gone)
		}
		if all, loose := d.cloud.Addresses(); all != 3 || loose != 1 {
			d.Errorf("%d addresses, %d without a server; want those of the second server and the person's", all, loose)
		}
		if gone := sweep(); len(gone) != 0 {
			d.Errorf("swept %v", gone)
		}
		if err := d.Delete(d.Context(), s.ID); err != nil {
			d.Error(err)
		}
	})
}

// A server without labels on its addresses is as good.
func TestR24LabelsOfAddressesAreNotNeeded(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.Fault{On: http.MethodPut + " /primary_ips/*", Status: 500, Code: "server_error"})
		d.mustCreate()
		if !strings.Contains(d.log.String(), "an address has no labels") {
			d.Error("the log does not tell")
		}
	})
}
