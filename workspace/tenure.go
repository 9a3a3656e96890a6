package workspace

// Tenure is this node's right to act under its leases: it holds while the mesh
// hears of the node in time. provision.Tenure is one. Each right that is
// gained has a Lost of its own, so that a loss which was over before anybody
// looked is still seen by who kept the channel.
type Tenure interface {
	// Err is nil while the right holds, else a sentence that says why not.
	Err() error
	// Lost is closed when the right that holds now is lost. While none holds
	// it is closed already.
	Lost() <-chan struct{}
	// Held is closed when the right holds. While it does it is closed already.
	Held() <-chan struct{}
}

// always is the right of a node that is a mesh of its own.
type always struct{}

var _ Tenure = always{}

func (always) Err() error            { return nil }
func (always) Lost() <-chan struct{} { return nil }
func (always) Held() <-chan struct{} {
	held := make(chan struct{})
	close(held)
	return held
}
