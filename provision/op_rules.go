package provision

import (
	"slices"
)

// maxOffers bounds what is kept of a provider's list.
const maxOffers = 2000

func (a *applier) set(s Set) error {
	if err := s.Policy.Check(); err != nil {
		return err
	}
	a.Rules = &s.Policy
	a.Breaker = Breaker{}
	return nil
}

func (a *applier) resume() error {
	a.Breaker = Breaker{}
	if p := a.Policy(); p.Stopped {
		p.Stopped = false
		a.Rules = &p
	}
	return nil
}

func (a *applier) prices(p Prices) error {
	if len(p.Offers) > maxOffers {
		return refuse(CodeInvalid, "The provider sells %d types: at most %d are kept.", len(p.Offers), maxOffers)
	}
	for _, o := range p.Offers {
		if o.Type == "" || o.Location == "" || o.Hour < 0 || o.CPUs < 0 {
			return refuse(CodeInvalid, "An offer has a type, a location and a price, not %q, %q and %s.", short(o.Type, 40), short(o.Location, 40), o.Hour)
		}
		if err := checkText(o.Type, o.Location, o.Arch, o.Leaving); err != nil {
			return err
		}
	}
	a.Offers = SortOffers(p.Offers)
	return nil
}

// SortOffers returns the offers as the pool keeps them: by type and location,
// each once.
func SortOffers(offers []Offer) []Offer {
	list := slices.Clone(offers)
	slices.SortFunc(list, compareOffers)
	return slices.CompactFunc(list, func(x, y Offer) bool { return compareOffers(x, y) == 0 })
}

func (a *applier) swept(s Swept) error {
	if len(s.Sweep.Strays) > MaxStrays || len(s.Sweep.Troubles) > MaxStrays {
		return refuse(CodeInvalid, "A sweep names at most %d servers.", MaxStrays)
	}
	s.Sweep.At = a.now
	a.Sweep = s.Sweep
	return nil
}
