# Commits everything in $SAMNODE_DIR as work in progress on the task's branch
# and pushes it. SAMNODE_DO=commit does not push, and says what the remote's
# branch lacks; aside does neither index, HEAD nor branch any harm, for an agent
# that works: its commit is refs/samnode/wip. POSIX sh; says what it did as
# samnode:key=value.
set -u
export LC_ALL=C
say() { printf 'samnode:%s=%s\n' "$1" "$2"; }
fail() { # sentence, file with git's words
	[ $# -gt 1 ] && [ -f "$2" ] && tail -n 20 "$2"
	say error "$1"
	exit 1
}
cd "$SAMNODE_DIR" && [ -f .git/HEAD ] || fail "there is no working copy in $SAMNODE_DIR"
branch=$SAMNODE_BRANCH
here=refs/heads/$branch
log=.git/samnode-save.log
: >"$log" || fail "the workspace's disk is full or read-only"

do=${SAMNODE_DO:-push}
g() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c commit.gpgSign=false -c advice.addEmbeddedRepo=false "$@"; }
id() { git rev-parse --verify --quiet "$1^{commit}"; }
git config user.name >/dev/null 2>&1 || git config user.name "$SAMNODE_NAME"
git config user.email >/dev/null 2>&1 || git config user.email "$SAMNODE_EMAIL"

busy=no
for f in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
	[ -e ".git/$f" ] && busy=yes
done

committed=no
work=
if [ "$busy" = yes ] || [ "$do" = aside ]; then
	# Do not touch what the agent is in the middle of: a commit on the side.
	side=$(git rev-parse --absolute-git-dir)/samnode-index
	cp -f .git/index "$side" 2>/dev/null
	GIT_INDEX_FILE=$side g add -A >>"$log" 2>&1
	tree=$(GIT_INDEX_FILE=$side git write-tree 2>>"$log")
	rm -f "$side"
	head=$(id HEAD)
	if [ -n "$tree" ] && [ "$tree" != "$(git rev-parse --verify --quiet "HEAD^{tree}")" ] &&
		work=$(git commit-tree ${head:+-p "$head"} -m "$SAMNODE_MESSAGE" "$tree" 2>>"$log") &&
		git update-ref refs/samnode/wip "$work"; then
		if [ "$do" = aside ]; then
			committed=yes
		else
			say note "The work is in the middle of a rebase or merge: a copy is in refs/samnode/wip of the workspace, not pushed."
		fi
	fi
else
	g add -A >>"$log" 2>&1 || fail "the work could not be staged" "$log"
	# Exits 1 when there is something; in an unborn branch the index decides.
	if id HEAD >/dev/null; then
		g diff --cached --quiet >>"$log" 2>&1
		dirty=$?
	else
		dirty=0
		[ -z "$(git ls-files | head -n 1)" ] || dirty=1
	fi
	if [ "$dirty" -ne 0 ]; then
		g commit -q --no-verify -m "$SAMNODE_MESSAGE" >>"$log" 2>&1 || fail "the work could not be committed" "$log"
		committed=yes
	fi
	# The agent may have worked on another branch or on none: the task's branch
	# follows if that only adds to it.
	on=$(git symbolic-ref -q HEAD || echo detached)
	ours=$(id "$here")
	head=$(id HEAD)
	if [ "$on" != "$here" ] && [ -n "$head" ] && [ "$head" != "$ours" ]; then
		if [ -z "$ours" ] || git merge-base --is-ancestor "$ours" "$head"; then
			git update-ref "$here" "$head"
		elif ! git merge-base --is-ancestor "$head" "$ours"; then
			say note "The work is on ${on#refs/heads/}, which has left $branch: it is committed in the workspace, not pushed."
		fi
	fi
fi

# How many files of a commit the branch at the remote does not have.
lacks() { # commit
	for up in "$SAMNODE_KNOWN" "refs/remotes/origin/$branch" "refs/remotes/origin/$SAMNODE_BASE"; do
		up=$(id "$up")
		[ -z "$up" ] || break
	done
	if [ -z "$up" ]; then
		git ls-tree -r --name-only "$1" | wc -l
	elif git merge-base --is-ancestor "$1" "$up" || g diff --quiet "$up" "$1"; then
		echo 0
	else
		base=$(git merge-base "$up" "$1") || base=$(git hash-object -t tree /dev/null)
		g diff --name-only "$base" "$1" | wc -l
	fi
}

head=$(id "$here")
say head "$head"
say committed "$committed"
if [ "$do" != push ]; then
	# What is checked out, wherever that is; else the branch, which was left.
	for work in "$work" "$(id HEAD)" "$head"; do
		[ -n "$work" ] || continue
		files=$(($(lacks "$work")))
		[ "$files" -eq 0 ] || break
	done
	say work "$work"
	say files "${files:-0}"
elif [ -n "$head" ]; then
	if [ "$head" = "$(id "refs/remotes/origin/$branch")" ] && [ "$committed" = no ]; then
		say pushed yes
	elif g push --porcelain --no-verify origin "$here:$here" >>"$log" 2>&1; then
		say pushed yes
	else
		say pushed no
		reason=$(sed -n 's/^![^[]*\[[^]]*\] *(\(.*\))$/\1/p' "$log" | head -n 1)
		[ -n "$reason" ] || reason=$(grep -v '^$' "$log" | tail -n 1)
		say reason "$reason"
		tail -n 20 "$log"
	fi
fi
say done yes
