package git

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace/git/gittest"
)

func spec(method string) MergeSpec {
	return MergeSpec{Base: "main", Head: "work", Method: method, Message: "Add it\n\nAll of it.", Author: Author{"Bo", "bo@example.com"}}
}

// diverged has main and work with commits of their own, in different files.
func diverged(t *testing.T) *kit {
	t.Helper()
	k := branched(t, map[string]string{"a.txt": numbered(9)}, map[string]string{"b.txt": "b\n"})
	k.push("work", "more work", map[string]string{"a.txt": numbered(9) + "line 10\n"})
	k.push("main", "main goes on", map[string]string{"c.txt": "c\n"})
	return k
}

func (k *kit) log(ref string) string {
	return gittest.Git(k.t, k.dir, "log", "--format=%an|%cn|%s|%p", "--graph", "--no-decorate", "--topo-order", ref)
}

func TestMergeInEachWay(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]struct {
		parents int
		first   []string // subjects along the first parents, newest first
	}{
		MethodMerge:  {2, []string{"Bo Add it", "Ana main goes on", "Ana base"}},
		MethodSquash: {1, []string{"Bo Add it", "Ana main goes on", "Ana base"}},
		MethodRebase: {1, []string{"Ana more work", "Ana work", "Ana main goes on", "Ana base"}},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			k := diverged(t)
			old := k.tip("main")
			id, err := k.repo.Merge(t.Context(), k.auth, spec(method))
			if err != nil {
				t.Fatal(err)
			}
			if got := k.tip("main"); got != id {
				t.Errorf("main is at %s, Merge said %s", got, id)
			}
			if got, _ := k.repo.Tip(t.Context(), "main"); got != id {
				t.Errorf("the mirror's main is at %s", got)
			}
			parents := strings.Fields(gittest.Git(t, k.dir, "log", "-1", "--format=%P", id))
			if len(parents) != want.parents || method != MethodRebase && parents[0] != old {
				t.Errorf("parents = %v", parents)
			}
			if diff := cmp.Diff(want.first, strings.Split(gittest.Git(t, k.dir, "log", "--first-parent", "--format=%an %s", "main"), "\n")); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff("a.txt\nb.txt\nc.txt", gittest.Git(t, k.dir, "ls-tree", "--name-only", id)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := gittest.Git(t, k.dir, "show", id+":a.txt"); !strings.Contains(got, "line 10") {
				t.Errorf("a.txt = %s", got)
			}
			if who := gittest.Git(t, k.dir, "log", "-1", "--format=%cn %ce", id); who != "Bo bo@example.com" {
				t.Errorf("committer = %s", who)
			}
			if _, err := k.repo.Merge(t.Context(), k.auth, spec(method)); !errors.Is(err, ErrMerged) {
				t.Errorf("merging again = %v, want ErrMerged", err)
			}
			if k.tip("main") != id {
				t.Error("merging again moved main")
			}
		})
	}
}

func TestMergeByMoving(t *testing.T) {
	t.Parallel()
	k := branched(t, map[string]string{"a": "1\n"}, map[string]string{"b": "1\n"})
	if id, err := k.repo.Merge(t.Context(), k.auth, spec(MethodFast)); err != nil || id != k.tip("work") || k.tip("main") != id {
		t.Errorf("Merge = %s, %v", id, err)
	}
	k = diverged(t)
	old := k.tip("main")
	if _, err := k.repo.Merge(t.Context(), k.auth, spec(MethodFast)); !errors.Is(err, ErrMoved) || k.tip("main") != old {
		t.Errorf("Merge of diverged branches = %v, want ErrMoved", err)
	}
}

func TestMergeConflict(t *testing.T) {
	t.Parallel()
	for _, method := range []string{MethodMerge, MethodSquash, MethodRebase} {
		k := diverged(t)
		k.push("main", "same line", map[string]string{"a.txt": strings.Replace(numbered(9), "line 9", "line nine", 1), "b.txt": "other\n"})
		old := k.tip("main")
		_, err := k.repo.Merge(t.Context(), k.auth, spec(method))
		var e *Error
		if !errors.Is(err, ErrConflict) || !errors.As(err, &e) || e.Retryable() {
			t.Fatalf("%s: %v, want ErrConflict", method, err)
		}
		want := []string{"a.txt", "b.txt"}
		if method == MethodRebase {
			want = []string{"b.txt"} // of the first commit that does not fit
		}
		if diff := cmp.Diff(want, e.Files); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", method, diff)
		}
		if k.tip("main") != old {
			t.Errorf("%s: main moved", method)
		}
	}
}

func TestMergeWhileOthersPush(t *testing.T) {
	t.Parallel()
	k := diverged(t)
	// The credentials are asked for before each talk with the remote: fetch,
	// then push. Between them somebody pushes.
	asked := 0
	theirs := ""
	auth := func(ctx context.Context) (Auth, error) {
		if asked++; asked == 2 {
			theirs = k.push("main", "meanwhile", map[string]string{"d.txt": "d\n"})
		}
		return k.auth(ctx)
	}
	id, err := k.repo.Merge(t.Context(), auth, spec(MethodMerge))
	if err != nil {
		t.Fatal(err)
	}
	if k.tip("main") != id || gittest.Tip(t, k.dir, id+"^1") != theirs {
		t.Errorf("main is\n%s", k.log("main"))
	}
	// They never stop: given up, nothing lost.
	auth = func(ctx context.Context) (Auth, error) {
		theirs = k.push("main", "again", map[string]string{"d.txt": noise(asked)})
		asked++
		return k.auth(ctx)
	}
	k.push("work", "last", map[string]string{"e.txt": "e\n"})
	if _, err := k.repo.Merge(t.Context(), auth, spec(MethodMerge)); !errors.Is(err, ErrMoved) || k.tip("main") != theirs {
		t.Errorf("Merge = %v, want ErrMoved; main is at %s, want %s", err, k.tip("main"), theirs)
	}
}

func TestMergeAfterTheBaseWasRewound(t *testing.T) {
	t.Parallel()
	k := branched(t, map[string]string{"a": "1\n"}, map[string]string{"b": "1\n"})
	first := k.tip("main")
	k.push("main", "a mistake", map[string]string{"secret": "x\n"})
	asked := 0
	auth := func(ctx context.Context) (Auth, error) {
		if asked++; asked == 2 {
			gittest.Git(t, k.dir, "update-ref", "refs/heads/main", first)
		}
		return k.auth(ctx)
	}
	id, err := k.repo.Merge(t.Context(), auth, spec(MethodMerge))
	if err != nil {
		t.Fatal(err)
	}
	if files := gittest.Git(t, k.dir, "ls-tree", "--name-only", id); strings.Contains(files, "secret") {
		t.Error("the commit that was taken back came in again")
	}
}

func TestMergeRefusedByTheRemote(t *testing.T) {
	t.Parallel()
	k := diverged(t)
	old := k.tip("main")
	k.remote.Reject("acme/widget", "main is protected")
	_, err := k.repo.Merge(t.Context(), k.auth, spec(MethodSquash))
	if !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "main is protected") {
		t.Errorf("Merge = %v", err)
	}
	if got, pushed, _ := k.repo.Head(t.Context(), "main"); got != old || !pushed {
		t.Errorf("the mirror's main is at %s, pushed %v, want %s", got, pushed, old)
	}
}

func TestRebaseKeepsAuthorsAndDropsWhatIsThere(t *testing.T) {
	t.Parallel()
	k := diverged(t)
	k.push("main", "the same as on the branch", map[string]string{"b.txt": "b\n"})
	id, err := k.repo.Merge(t.Context(), k.auth, spec(MethodRebase))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("more work\nthe same as on the branch\nmain goes on\nbase", gittest.Git(t, k.dir, "log", "--format=%s", id)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if who := gittest.Git(t, k.dir, "log", "-1", "--format=%an %ae", id); who != "Ana ana@example.com" {
		t.Errorf("author = %s", who)
	}
}

func TestMergeSpecsThatAreWrong(t *testing.T) {
	t.Parallel()
	k := diverged(t)
	for name, change := range map[string]func(*MergeSpec){
		"no author":     func(m *MergeSpec) { m.Author = Author{} },
		"author breaks": func(m *MergeSpec) { m.Author.Name = "x\ncommitter y" },
		"no message":    func(m *MergeSpec) { m.Message = "" },
		"no method":     func(m *MergeSpec) { m.Method = "octopus" },
		"option base":   func(m *MergeSpec) { m.Base = "--all" },
		"no base":       func(m *MergeSpec) { m.Base = "never" },
		"no head":       func(m *MergeSpec) { m.Head = "never" },
	} {
		m := spec(MethodMerge)
		change(&m)
		if _, err := k.repo.Merge(t.Context(), k.auth, m); err == nil {
			t.Errorf("%s: went through", name)
		}
	}
}
