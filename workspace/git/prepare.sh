# Brings $SAMNODE_DIR to the task's branch. POSIX sh; every value comes by the
# environment, so nothing needs quoting. Says what it did as samnode:key=value.
set -u
export LC_ALL=C
say() { printf 'samnode:%s=%s\n' "$1" "$2"; }
fail() { # sentence, file with git's words
	[ $# -gt 1 ] && [ -f "$2" ] && tail -n 20 "$2"
	say error "$1"
	exit 1
}
command -v git >/dev/null 2>&1 || fail "the image has no git: add it to the dev container"

dir=$SAMNODE_DIR
branch=$SAMNODE_BRANCH
mkdir -p "$dir" && cd "$dir" || fail "the working copy's folder $dir cannot be made"
log=$dir/.git/samnode-prepare.log

# No hook of the repository and no helper of the image runs here. Many files are
# checked out by as many workers as there are processors.
g() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c commit.gpgSign=false -c checkout.workers=0 "$@"; }
# Refs are named in full: a branch may be called like anything.
here=refs/heads/$branch
there=refs/remotes/origin/$branch
id() { git rev-parse --verify --quiet "$1^{commit}"; }

fresh=no
if ! [ -f .git/HEAD ] || ! [ -f .git/config ]; then
	fresh=yes
	rm -f .git/config.lock .git/HEAD.lock # of one that was killed while it began
	GIT_TEMPLATE_DIR='' git init -q . && git symbolic-ref HEAD refs/heads/samnode-unborn ||
		fail "git cannot begin a repository in $dir"
fi
# A container that was killed leaves locks behind; nothing else runs now.
rm -f .git/index.lock .git/HEAD.lock .git/config.lock .git/packed-refs.lock .git/shallow.lock "$(git rev-parse --git-path "$here").lock"
find .git/refs -name '*.lock' -type f -exec rm -f {} + # of a fetch; no ref may be called so
: >"$log"

if [ -n "$SAMNODE_MIRROR" ] && [ -d "$SAMNODE_MIRROR/objects" ]; then
	mkdir -p .git/objects/info
	printf '%s\n' "$SAMNODE_MIRROR/objects" >.git/objects/info/alternates
fi
git config remote.origin.url "$SAMNODE_URL"
# git before 2.31 takes no settings from the environment.
way=url.${SAMNODE_PROXY}repo.insteadOf
[ -n "$(git config "$way")" ] || git config "$way" "${SAMNODE_URL%.git}"
git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
git config user.name >/dev/null 2>&1 || git config user.name "$SAMNODE_NAME"
git config user.email >/dev/null 2>&1 || git config user.email "$SAMNODE_EMAIL"
git config push.default current
git config "branch.$branch.remote" origin
git config "branch.$branch.merge" "$here"

# stdout is for our lines; progress is for the one who waits.
if ! g fetch --progress --prune --no-recurse-submodules origin '+refs/heads/*:refs/remotes/origin/*' 2>"$log"; then
	cat "$log" >&2
	fail "fetching into the workspace failed" "$log"
fi
cat "$log" >&2
if [ -n "$SAMNODE_BASE" ] && id "refs/remotes/origin/$SAMNODE_BASE" >/dev/null; then
	git symbolic-ref refs/remotes/origin/HEAD "refs/remotes/origin/$SAMNODE_BASE"
fi

finish() { # state
	if [ -f .gitmodules ] && [ "$1" != busy ]; then
		g submodule update --init --recursive --quiet >>"$log" 2>&1 </dev/null ||
			say note "Some submodules could not be fetched; the rest of the working copy is complete."
	fi
	say head "$(id HEAD)"
	say state "$1"
	exit 0
}

busy() {
	for f in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
		[ -e ".git/$f" ] && return 0
	done
	return 1
}

if busy; then
	say note "The working copy was left in the middle of a rebase or merge; it is as it was."
	finish busy
fi

ours=$(id "$here")
theirs=$(id "$there")

# A first commit that was never made, of an empty repository's task.
if [ -z "$ours" ] && [ "$(git symbolic-ref -q HEAD)" = "$here" ] && [ -n "$(git status --porcelain | head -n 1)" ]; then
	g add -A >>"$log" 2>&1 && g commit -q --no-verify -m "Work in progress found on this disk" >>"$log" 2>&1 ||
		fail "the uncommitted work on this disk could not be committed" "$log"
	say note "Uncommitted work was found on this disk and committed."
	ours=$(id "$here")
fi

# A new branch: from the remote's copy of it, else from the base.
if [ -z "$ours" ]; then
	start=$there
	[ -n "$theirs" ] || start=refs/remotes/origin/$SAMNODE_BASE
	if ! id "$start" >/dev/null; then
		# Nothing to start from: the first commit begins the branch.
		if [ -n "$(git for-each-ref --count=1 refs/remotes/origin)" ]; then
			fail "the repository has no branch $SAMNODE_BASE"
		fi
		git symbolic-ref HEAD "$here"
		say note "The repository is empty: the first commit begins it."
		finish fresh
	fi
	# Local changes of a cut checkout are not anybody's work.
	force=
	[ "$fresh" = yes ] || id HEAD >/dev/null || force=-f
	g checkout -q $force --no-track -b "$branch" "$start" >>"$log" 2>&1 || fail "checking out $branch failed" "$log"
	finish fresh
fi

# An older disk. Uncommitted work first becomes a commit: nothing is lost.
on=$(git symbolic-ref -q HEAD || echo detached)
if [ -n "$(git status --porcelain --untracked-files=all | head -n 1)" ]; then
	g add -A >>"$log" 2>&1 && g commit -q --no-verify -m "Work in progress found on this disk" >>"$log" 2>&1 ||
		fail "the uncommitted work on this disk could not be committed" "$log"
	say note "Uncommitted work was found on this disk and committed."
fi
if [ "$on" != "$here" ]; then
	left=$(id HEAD)
	if [ -n "$left" ] && [ -n "$ours" ] && git merge-base --is-ancestor "$ours" "$left" && ! git merge-base --is-ancestor "$left" "$ours"; then
		git update-ref "$here" "$left" "$ours"
	elif [ "$on" = detached ] && [ -n "$left" ] && ! git merge-base --is-ancestor "$left" "$ours"; then
		git update-ref "refs/heads/samnode-kept-$(git rev-parse --short=10 HEAD)" "$left"
		say note "Commits that were on no branch are on samnode-kept-$(git rev-parse --short=10 HEAD) now."
	fi
	g checkout -q "$branch" -- >>"$log" 2>&1 || fail "checking out $branch failed" "$log"
fi
ours=$(id "$here")

[ -n "$theirs" ] || finish ahead
[ "$ours" != "$theirs" ] || finish same
if git merge-base --is-ancestor "$ours" "$theirs"; then
	g merge -q --ff-only "$there" >>"$log" 2>&1 || fail "bringing this disk up to the remote failed" "$log"
	say note "This disk was older than the remote and was brought up to it."
	finish behind
fi
if git merge-base --is-ancestor "$theirs" "$ours"; then
	finish ahead
fi
if g merge -q --no-edit -m "Merge the remote's newer commits" "$there" >>"$log" 2>&1; then
	say note "This disk and the remote both had new commits; they were merged."
	finish merged
fi
# The remote's commits win the name; ours stay, under another.
kept=samnode-kept-$(git rev-parse --short=10 "$ours")
g merge --abort >>"$log" 2>&1
git update-ref "refs/heads/$kept" "$ours" && g reset -q --hard "$there" >>"$log" 2>&1 || fail "setting this disk to the remote's commits failed" "$log"
say note "This disk and the remote conflict: the branch has the remote's commits, this disk's are on the local branch $kept."
finish kept
