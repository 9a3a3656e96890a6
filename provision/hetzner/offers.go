package hetzner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// Offers are all types at all their locations, in the order of Hetzner's list.
// Prices are net and include a public IPv4 address. It takes two calls, and
// one more for every 50 types.
//
// Orderable is what Hetzner says of the location, and nothing else: types that
// cannot be had keep a price and are not deprecated. It is a hint.
func (c *Client) Offers(ctx context.Context) ([]provision.Offer, error) {
	s := about("reading what Hetzner sells")
	types, err := pages(s, func(page int) ([]*hcloud.ServerType, *hcloud.Response, error) {
		return c.api.ServerType.List(ctx, hcloud.ServerTypeListOpts{ListOpts: hcloud.ListOpts{Page: page, PerPage: perPage}})
	})
	if err != nil {
		return nil, err
	}
	prices, resp, err := c.api.Pricing.Get(ctx)
	if err == nil && prices.Currency == "" {
		err = errors.New("the answer has no prices")
	}
	if err != nil {
		return nil, explain(about("reading Hetzner's prices"), resp, err)
	}
	if prices.Currency != "EUR" {
		return nil, refuse(provision.BadOrder, nil, "Hetzner gives this account's prices in %q, and samnode counts in euro: nothing can be bought with it. Use a project of an account that pays in euro.", clip(prices.Currency))
	}
	address := addressPrices(prices)
	var all []provision.Offer
	for _, t := range types {
		for _, l := range t.Locations {
			offer, err := offerOf(t, l, address)
			if err != nil {
				c.log.Warn("left out an offer whose price cannot be read", "type", t.Name, "err", err)
				continue
			}
			all = append(all, offer)
		}
	}
	if len(all) == 0 {
		return nil, refuse(provision.Unreachable, nil, "Hetzner's list of types has none with a price that can be read; samnode asks again.")
	}
	return all, nil
}

// addressPrices are those of an IPv4 address by location, an hour and a month.
func addressPrices(p hcloud.Pricing) map[string][2]string {
	by := map[string][2]string{}
	for _, kind := range p.PrimaryIPs {
		for _, at := range kind.Pricings {
			if kind.Type == string(hcloud.PrimaryIPTypeIPv4) {
				by[at.Location] = [2]string{at.Hourly.Net, at.Monthly.Net}
			}
		}
	}
	return by
}

func offerOf(t *hcloud.ServerType, at hcloud.ServerTypeLocation, address map[string][2]string) (provision.Offer, error) {
	if at.Location == nil {
		return provision.Offer{}, errors.New("no location")
	}
	o := provision.Offer{
		Type: t.Name, Location: at.Location.Name, Arch: arch(t.Architecture), CPUs: t.Cores,
		Mem: int64(float64(t.Memory) * (1 << 30)), Disk: int64(t.Disk) * 1e9,
		Orderable: at.Available, Leaving: leaving(t, at),
	}
	for _, p := range t.Pricings {
		if p.Location == nil || p.Location.Name != o.Location {
			continue
		}
		ip, known := address[o.Location]
		if !known {
			return o, fmt.Errorf("no price of an IPv4 address in %s", o.Location)
		}
		hour, err1 := sum(p.Hourly.Net, ip[0])
		month, err2 := sum(p.Monthly.Net, ip[1])
		o.Hour, o.Month = hour, month
		return o, errors.Join(err1, err2)
	}
	return o, fmt.Errorf("no price in %s", o.Location)
}

func arch(a hcloud.Architecture) string {
	switch a {
	case hcloud.ArchitectureX86:
		return "amd64"
	case hcloud.ArchitectureARM:
		return "arm64"
	}
	return string(a)
}

// leaving is when the type goes away at that location, or everywhere.
func leaving(t *hcloud.ServerType, at hcloud.ServerTypeLocation) string {
	info := at.Deprecation
	if info == nil {
		info = t.Deprecation // some types say it only here
	}
	if info == nil {
		return ""
	}
	return "Hetzner stops selling it on " + info.UnavailableAfter.UTC().Format("2 January 2006")
}

func sum(a, b string) (provision.Money, error) {
	x, err := money(a)
	if err != nil {
		return 0, err
	}
	y, err := money(b)
	return x + y, err
}

// money reads a decimal number of euros, as exact as Money is.
func money(s string) (provision.Money, error) {
	whole, part, _ := strings.Cut(s, ".")
	digits := strings.TrimLeft(whole+part, "0123456789")
	if whole == "" || digits != "" || len(whole) > 9 {
		return 0, fmt.Errorf("%q is not a price", clip(s))
	}
	part = (part + "0000000")[:7]
	n, err := strconv.ParseInt(whole+part, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading a price: %w", err)
	}
	return provision.Money((n + 5) / 10), nil
}
