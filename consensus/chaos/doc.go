// Package chaos runs whole meshes through random schedules of faults and looks
// for what must not be: an acknowledged append that is lost or doubled, a read
// that is stale, a slot or task with two leases, two holders that act at once,
// replicas that differ, a mesh that does not come back. It has tests only;
// scripts/chaos runs many schedules and prints what came of them.
//
// # What is real
//
// Three or five core nodes and one or two workers per schedule, in a
// testing/synctest bubble. Each core node has a consensus.Log on disk, two
// machines in it (the provision.State, and a board in place of the chat), and
// does what cmd/samnode does: the leader's heart, scheduler, voters and members,
// each node's beats and tenure, runs that act under leases behind package
// workspace's fence. Clients append and read at any node.
//
// # What is played
//
//   - The network is TCP as its ends see it: order, delay, a window, what is cut
//     off waits and comes late, a killed process resets, one without power is
//     silent, dials hang or are refused.
//   - A kill takes a node's directory as it is at that moment: when nothing
//     moves, in the middle of writing the log, or as it sends. A power cut takes
//     back, of the log's files, writes that were not synced: none, all, or
//     sectors here and there; and of the board's own store what it did not sync.
//     The other files (bbolt, snapshots) are never caught between write and sync.
//   - The old process cannot be stopped as a system would. It goes on unheard
//     in its old directory until it ends, and nothing that it does counts.
//   - A paused process neither reads, writes nor answers, and starts nothing; its
//     timers go on. So a paused leader steps down by itself, where a real one
//     wakes up and still thinks that it leads; what it then does is played by
//     the fault "stale leaders": a node that led schedules on with what it had of
//     its office. Processes that are stopped for real are package consensus's
//     tests.
//   - There is one clock. Clocks that differ are package provision's tests.
//
// # Seeds
//
// A schedule (the nodes, the faults and when they strike, what each client does
// next) is a function of its seed. How it goes is not quite: who leads, which
// message is first among those of one instant and how far a write has come when
// its process is killed depend on Go's scheduler, also inside a bubble. A seed
// that failed once mostly fails again, but may take some runs.
//
// # What is checked
//
// Whenever a machine is given an entry, it must be what every other one was
// given there. In the end all is mended and the mesh must accept writes within
// bounds; all replicas must be what a replay of the log is, byte for byte; each
// append must be in its list once and where its client was told, or not at all
// when the client was told that nothing was written. Porcupine looks at the
// history of each list (appends and reads), and of each slot and task (grants,
// ends, what holders did and what readers saw). That these checks see
// something, implementations that are broken on purpose prove.
package chaos
