// Package chaos tests the log and the pool together.
package chaos
