package chat

// Messages is the part of the state that lives on disk. State calls it inside
// Apply only, one goroutine at a time, within one transaction that also holds
// the applied index; an error of it stops the node.
type Messages interface {
	// Get returns the message with that id, or false when there is none.
	Get(task TaskID, id string) (Message, bool, error)
	// Put writes the message whole, new or not.
	Put(m Message) error
}
