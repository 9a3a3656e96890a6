# What the working copy $SAMNODE_DIR has that its base has not, committed or not,
# below $SAMNODE_PATH (empty: all of it). SAMNODE_DO=names lists files, as cheaply
# as git can; diff and patch compare a snapshot of all files, which leaves index,
# HEAD and objects as they are. POSIX sh; says what it did as samnode:key=value,
# and then come the bytes that the last key counts or names.
set -u
export LC_ALL=C GIT_LITERAL_PATHSPECS=1 GIT_OPTIONAL_LOCKS=0
say() { printf 'samnode:%s=%s\n' "$1" "$2"; }
fail() {
	say error "$1"
	exit 1
}
command -v git >/dev/null 2>&1 || fail "the image has no git: add it to the dev container"
cd "$SAMNODE_DIR" && [ -f .git/HEAD ] || fail "there is no working copy in $SAMNODE_DIR"
g() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.addEmbeddedRepo=false "$@"; }
id() { git rev-parse --verify --quiet "$1^{commit}"; }
what=${SAMNODE_PATH:-.}

base=
[ -z "$SAMNODE_FROM" ] || base=$(id "$SAMNODE_FROM")
if [ -z "$base" ] && [ -n "$SAMNODE_BASE" ] && id HEAD >/dev/null; then
	base=$(git merge-base HEAD "refs/remotes/origin/$SAMNODE_BASE" 2>/dev/null)
fi
[ -n "$base" ] || base=$(git hash-object -t tree /dev/null)
say base "$base"

# What a killed predecessor left, here or half uploaded.
find .git -maxdepth 1 -name 'samnode-changes.*' -mmin +60 -exec rm -rf {} + 2>/dev/null
find .git -maxdepth 1 -name 'samnode-upload-*' -mmin +1440 -exec rm -f {} + 2>/dev/null
temp=$(mktemp -d .git/samnode-changes.XXXXXX) || fail "the workspace's disk is full or read-only"
temp=$PWD/$temp
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM
[ ! -f .git/index ] || cp .git/index "$temp/index" || fail "the workspace's disk is full"
export GIT_INDEX_FILE="$temp/index"

if [ "$SAMNODE_DO" = names ]; then
	g update-index -q --refresh >/dev/null 2>&1
	say list raw
	g diff-index --raw -z --abbrev=64 --no-renames "$base" -- "$what" || exit 1
	printf 'samnode:others\0'
	g ls-files -z --others --exclude-standard --directory --no-empty-directory -- "$what"
	exit
fi

# The snapshot's objects go where they are forgotten.
mkdir "$temp/objects" || fail "the workspace's disk is full"
GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --git-path objects)
case $GIT_ALTERNATE_OBJECT_DIRECTORIES in /*) ;; *) GIT_ALTERNATE_OBJECT_DIRECTORIES=$PWD/$GIT_ALTERNATE_OBJECT_DIRECTORIES ;; esac
export GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_OBJECT_DIRECTORY="$temp/objects"
fast="-c core.compression=0 -c core.bigFileThreshold=8m"
if ! g $fast add -A -- "$what" 2>"$temp/log"; then
	if [ -e "$what" ] || [ -L "$what" ]; then
		say note "Files that git does not know yet are left out: $(tail -n 1 "$temp/log" | tr -d '\000-\037')"
	fi
	g $fast add -u -- "$what" 2>/dev/null
fi
tree=$(git write-tree 2>"$temp/log") || fail "the working copy is in the middle of a merge that has conflicts: $(head -n 1 "$temp/log" | tr -d '\000-\037')"
if [ "$SAMNODE_DO" = patch ]; then
	say patch raw
	g diff-tree -r -p -M -l400 --binary --no-ext-diff --no-textconv --no-color "$base" "$tree" -- "$what"
	exit
fi
space=
[ -z "$SAMNODE_SPACE" ] || space=-w
set -- diff-tree -r -M -l400 --no-ext-diff --no-textconv --no-commit-id $space
g "$@" --raw --numstat --abbrev=64 -z "$base" "$tree" -- "$what" >"$temp/changed" || exit 1
say changed "$(wc -c <"$temp/changed" | tr -d ' ')"
cat "$temp/changed"
g "$@" -p --no-color --no-prefix --full-index "-U$SAMNODE_CONTEXT" "$base" "$tree" -- "$what"
