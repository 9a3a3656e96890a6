package loopback

import "testing"

func TestListenRefusesWhatOthersReach(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		if l, err := ListenPages(t.Context(), addr, nil); err == nil {
			l.Close()
			t.Errorf("ListenPages(%q) listens", addr)
		}
	}
	l, err := ListenPages(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true,
		"": false, "evil.example": false, "localhost.evil.example": false, "192.0.2.7": false, "::": false, "127.0.0.1.evil.example": false,
	} {
		if got := IsLoopback(host); got != want {
			t.Errorf("IsLoopback(%q) = %v", host, got)
		}
	}
}
