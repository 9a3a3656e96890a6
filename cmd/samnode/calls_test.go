package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
)

func TestWhatTheLogAnswersHasANameForCallers(t *testing.T) {
	for err, want := range map[error]error{
		consensus.ErrNoLeader:       errNoLeader,
		consensus.ErrUnknownOutcome: errNoLeader,
		consensus.ErrLastVoter:      chat.ErrRefused,
		consensus.ErrTooFewVoters:   chat.ErrRefused,
		consensus.ErrTooLarge:       consensus.ErrTooLarge,
	} {
		if got := logError(fmt.Errorf("removing member a: %w", err)); !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("logError(%v) = %v, want it to be %v as well", err, got, want)
		}
	}
}
