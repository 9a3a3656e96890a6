package hetznertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// Prices are those of the summer of 2026, without VAT and address: the month
// in cents, of which an hour is the 624th part.
const (
	hoursAMonth  = 624
	addressCents = 50
	vatPercent   = 19
)

type location struct {
	ID          int64   `json:"id"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Country     string  `json:"country"`
	City        string  `json:"city"`
	Latitude    float64 `json:"latitude"`
	Longitude   float64 `json:"longitude"`
	NetworkZone string  `json:"network_zone"`
}

func locations() []location {
	return []location{
		{1, "fsn1", "Falkenstein DC Park 1", "DE", "Falkenstein", 50.47612, 12.370071, "eu-central"},
		{2, "nbg1", "Nuremberg DC Park 1", "DE", "Nuremberg", 49.452102, 11.076665, "eu-central"},
		{3, "hel1", "Helsinki DC Park 1", "FI", "Helsinki", 60.169855, 24.938379, "eu-central"},
		{4, "ash", "Ashburn, VA", "US", "Ashburn, VA", 39.045821, -77.487073, "us-east"},
		{5, "hil", "Hillsboro, OR", "US", "Hillsboro, OR", 45.54222, -122.951924, "us-west"},
		{6, "sin", "Singapore", "SG", "Singapore", 1.283333, 103.833333, "ap-southeast"},
	}
}

// serverType is a type and where it is sold. Cloud.mu covers what changes.
type serverType struct {
	id      int64
	name    string
	cores   int
	memory  float64 // GB
	disk    int     // GB
	arch    string
	cpu     string
	cents   int64 // a month
	at      []int64
	leaving time.Time // zero: it stays
	lacks   []string  // locations where the list says that it cannot be had
}

func catalog() []*serverType {
	eu, all := []int64{1, 2, 3}, []int64{1, 2, 3, 4, 5, 6}
	return []*serverType{
		{id: 22, name: "cpx11", cores: 2, memory: 2, disk: 40, arch: "x86", cpu: "shared", cents: 449, at: eu, lacks: []string{"fsn1", "nbg1", "hel1"}},
		{id: 104, name: "cx22", cores: 2, memory: 4, disk: 40, arch: "x86", cpu: "shared", cents: 379, at: eu, leaving: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), lacks: []string{"fsn1", "nbg1", "hel1"}},
		{id: 114, name: "cx23", cores: 2, memory: 4, disk: 40, arch: "x86", cpu: "shared", cents: 549, at: eu},
		{id: 115, name: "cx33", cores: 4, memory: 8, disk: 80, arch: "x86", cpu: "shared", cents: 849, at: eu},
		{id: 116, name: "cx43", cores: 8, memory: 16, disk: 160, arch: "x86", cpu: "shared", cents: 1599, at: eu},
		{id: 45, name: "cax11", cores: 2, memory: 4, disk: 40, arch: "arm", cpu: "shared", cents: 599, at: eu},
		{id: 93, name: "cax21", cores: 4, memory: 8, disk: 80, arch: "arm", cpu: "shared", cents: 1049, at: eu},
		{id: 108, name: "cpx12", cores: 1, memory: 2, disk: 40, arch: "x86", cpu: "shared", cents: 1149, at: all},
		{id: 109, name: "cpx22", cores: 2, memory: 4, disk: 80, arch: "x86", cpu: "shared", cents: 1949, at: all},
		{id: 110, name: "cpx32", cores: 4, memory: 8, disk: 160, arch: "x86", cpu: "shared", cents: 3549, at: all},
		{id: 96, name: "ccx13", cores: 2, memory: 8, disk: 80, arch: "x86", cpu: "dedicated", cents: 4299, at: all},
	}
}

type image struct {
	id                 int64
	name, flavor, arch string
	version            string
	app                bool // a system with programs of its provider
	gone               bool
}

func images() (all []*image) {
	id := int64(1000)
	for _, name := range [][3]string{{"debian-12", "debian", "12"}, {"debian-13", "debian", "13"}, {"ubuntu-24.04", "ubuntu", "24.04"}} {
		for _, arch := range []string{"x86", "arm"} {
			id++
			all = append(all, &image{id: id, name: name[0], flavor: name[1], version: name[2], arch: arch})
		}
	}
	return append(all, &image{id: id + 1, name: "docker-ce", flavor: "ubuntu", version: "24.04", arch: "x86", app: true})
}

func (t *serverType) soldAt(l location) bool { return slices.Contains(t.at, l.ID) }

// hourly and monthly are with an IPv4 address, as a bill has it.
func (t *serverType) hourly() provision.Money {
	return (provision.Money(t.cents+addressCents)*provision.Euro/100 + hoursAMonth/2) / hoursAMonth
}

func (t *serverType) monthly() provision.Money {
	return provision.Money(t.cents+addressCents) * provision.Euro / 100
}

type price struct {
	Net   string `json:"net"`
	Gross string `json:"gross"`
}

func priceOf(cents, parts int64) price {
	net := float64(cents) / 100 / float64(parts)
	return price{fmt.Sprintf("%.10f", net), fmt.Sprintf("%.10f", net*(100+vatPercent)/100)}
}

type locationPrice struct {
	Location string `json:"location"`
	Hourly   price  `json:"price_hourly"`
	Monthly  price  `json:"price_monthly"`
	Traffic  *int64 `json:"included_traffic,omitempty"`
	PerTB    *price `json:"price_per_tb_traffic,omitempty"`
}

func priceAt(l location, cents int64, traffic bool) locationPrice {
	p := locationPrice{Location: l.Name, Hourly: priceOf(cents, hoursAMonth), Monthly: priceOf(cents, 1)}
	if traffic {
		twenty, one := int64(20)<<40, priceOf(100, 1)
		p.Traffic, p.PerTB = &twenty, &one
	}
	return p
}

func (t *serverType) prices() (all []locationPrice) {
	for _, l := range locations() {
		if t.soldAt(l) {
			all = append(all, priceAt(l, t.cents, true))
		}
	}
	return all
}

// pricing is the answer of GET /pricing.
func (c *Cloud) pricingLocked() any {
	type object = map[string]any
	var types []object
	for _, t := range c.types {
		types = append(types, object{"id": t.id, "name": t.name, "prices": t.prices()})
	}
	var v4, v6, floating []any
	for _, l := range locations() {
		v4 = append(v4, priceAt(l, addressCents, false))
		v6 = append(v6, priceAt(l, 0, false))
		floating = append(floating, object{"location": l.Name, "price_monthly": priceOf(300, 1)})
	}
	return object{"pricing": object{
		"currency": "EUR", "vat_rate": fmt.Sprintf("%d.000000", vatPercent),
		"server_types": types, "load_balancer_types": []any{},
		"primary_ips":  []any{object{"type": "ipv4", "prices": v4}, object{"type": "ipv6", "prices": v6}},
		"floating_ip":  object{"price_monthly": priceOf(300, 1)},
		"floating_ips": []any{object{"type": "ipv4", "prices": floating}, object{"type": "ipv6", "prices": floating}},
		"image":        object{"price_per_gb_month": priceOf(1, 1)}, "volume": object{"price_per_gb_month": priceOf(5, 1)},
		"server_backup": object{"percentage": "20.00"},
	}}
}
