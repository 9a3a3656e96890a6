package hetzner

import (
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// The refusals of an order differ by a few words in Hetzner's message; the
// words are looked for here and nowhere else.

// missing is a 404: of an order it says that a part of it is gone.
func (s subject) missing(e hcloud.Error) *provision.ProviderError {
	if s.order.Name == "" {
		return refuse(provision.Gone, e, "Hetzner says that there is nothing of the kind any more (%s); samnode takes it for gone.", s.doing)
	}
	return s.part(e, strings.ToLower(e.Message))
}

// invalid is a 422: it names the field, or says it in words.
func (s subject) invalid(e hcloud.Error) *provision.ProviderError {
	words := []string{e.Message}
	if d, ok := e.Details.(hcloud.ErrorDetailsInvalidInput); ok {
		for _, f := range d.Fields {
			words = append(append(words, f.Name), f.Messages...)
		}
	}
	text := strings.ToLower(strings.Join(words, " "))
	if strings.Contains(text, "unsupported location") {
		return s.soldOut(e)
	}
	return s.part(e, text)
}

// part finds the part of an order that Hetzner does not take.
func (s subject) part(e hcloud.Error, text string) *provision.ProviderError {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	o := s.order
	switch {
	case o.Name == "": // not an order
	case has("user_data", "user data"):
		return refuse(provision.BadOrder, e, "Hetzner does not take the machine's first instructions (%d bytes): %s. This is a fault of samnode's settings: shorten them.", len(o.UserData), clip(e.Message))
	case has("ssh_key", "ssh key"):
		return refuse(provision.BadOrder, e, "Hetzner does not have the SSH key of the settings: add it to the project, or take it out of the settings.")
	case has("image"):
		return refuse(provision.BadOrder, e, "Hetzner has no image %s for servers of type %s: choose another one in the settings.", o.Image, o.Type)
	case has("server_type", "server type"):
		return refuse(provision.BadOffer, e, "Hetzner does not sell servers of type %s (%s); %s", o.Type, clip(e.Message), nextChoice)
	case has("location"):
		return refuse(provision.BadOffer, e, "Hetzner makes no servers in %s (%s); %s", o.Location, clip(e.Message), nextChoice)
	}
	return refuse(provision.BadOrder, e, "Hetzner refuses %s: %s (%s). %s", s.doing, clip(e.Message), e.Code, next(provision.BadOrder))
}

func (s subject) soldOut(e hcloud.Error) *provision.ProviderError {
	if strings.Contains(strings.ToLower(e.Message), "location disabled") {
		return refuse(provision.BadOffer, e, "Hetzner has closed the location %s to new servers; %s", s.order.Location, nextChoice)
	}
	if s.order.Name == "" {
		return refuse(provision.SoldOut, e, "Hetzner has nothing left for %s (%s). %s", s.doing, clip(e.Message), next(provision.SoldOut))
	}
	return refuse(provision.SoldOut, e, "Hetzner has no %s left in %s (%s); %s", s.order.Type, s.order.Location, clip(e.Message), nextChoice)
}
