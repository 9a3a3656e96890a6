package chat

import "time"

// The one table of deadlines. An outer one is longer than the sum of what it
// contains; a test asserts it. Workspace and the scheduler take theirs from
// here.
const (
	DeadlineCancel     = 10 * time.Second // session/cancel, then the agent is killed
	DeadlineInitialize = 15 * time.Second // ACP initialize
	DeadlineSession    = 60 * time.Second // session/new, resume or load
	DeadlineTurn       = 24 * time.Hour   // a whole turn: the brake on cost

	deadlineMargin = 2 * time.Minute // what an outer one has above its parts
)

// deadlines are those of the steps. Place has none of its own in a full mesh:
// a task stays queued and shows why; the time here is for one decision.
var deadlines = map[StepName]time.Duration{
	StepPlace:     time.Minute,
	StepBuy:       5 * time.Minute, // three creates, each with its retries
	StepBoot:      10 * time.Minute,
	StepMirror:    20 * time.Minute,
	StepClone:     10 * time.Minute,
	StepImage:     30 * time.Minute, // a dev container's build
	StepContainer: 2 * time.Minute,
	StepHooks:     20 * time.Minute,
	StepAgent:     DeadlineInitialize + DeadlineSession + time.Minute,
}

// The order of steps, outer ones apart.
var (
	prepareSteps = []StepName{StepMirror, StepClone, StepImage, StepContainer, StepHooks}
	startSteps   = []StepName{StepPlace, StepBuy, StepBoot}
)

// Deadline is how long a step may take from its begin; 0 for an unknown one.
func Deadline(step StepName) time.Duration { return deadlines[step] }

// DeadlinePrepare is that of all steps of Prepare together.
func DeadlinePrepare() time.Duration { return sum(prepareSteps) + deadlineMargin }

// DeadlineStart is that of a whole start, from queued to the agent's session.
func DeadlineStart() time.Duration {
	return sum(startSteps) + DeadlinePrepare() + deadlines[StepAgent] + deadlineMargin
}

func sum(steps []StepName) (d time.Duration) {
	for _, s := range steps {
		d += deadlines[s]
	}
	return d
}
