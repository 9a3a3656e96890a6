# What VS Code's Remote-SSH does at the other end, as its documentation and its
# log describe it: find out about the machine, place the server below the home
# folder (download it, or wait until the client has uploaded it), start it if it
# does not run, and tell its port.
export VSCODE_AGENT_FOLDER=$HOME/.vscode-server
cd ~ && umask 077
server=$VSCODE_AGENT_FOLDER/bin/$COMMIT
say() { echo "$1==$2=="; }
fail() { say exitCode "$1"; echo "$ID: end"; exit 0; }

echo "$ID: running"
mkdir -p "$server" || fail 190
archive=$server/vscode-server.tar.gz
if [ ! -f "$server/bin/code-server" ]; then
	if [ -n "$DOWNLOAD" ]; then
		status=$(curl --retry 3 --connect-timeout 15 --location --show-error --silent --output "$archive" --write-out '%{http_code}' "$DOWNLOAD") || status="failed $status"
		say download "$status"
	fi
	if [ "$status" != 200 ]; then
		echo "$ID:trigger_server_download"
		say artifact server-linux-x64
		say destFolder "$server"
		echo "$ID:trigger_server_download_end"
		while [ ! -f "$archive.done" ]; do sleep 0.2; done
	fi
	tar -xf "$archive" -C "$server" --strip-components 1 --no-same-owner || fail 205
	rm -f "$archive" "$archive.done"
	say unpackResult success
fi
pid=$(cat "$server/pid" 2>/dev/null)
if [ -z "$pid" ] || ! ps -o pid,args -p "$pid" | grep -q "$server"; then
	head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$server/token"
	"$server/bin/code-server" --start-server --host=127.0.0.1 --port=0 --connection-token-file "$server/token" \
		--telemetry-level off --enable-remote-auto-shutdown --accept-server-license-terms >"$server/log" 2>&1 &
	pid=$!
	echo $pid >"$server/pid"
fi
for _ in $(seq 100); do
	port=$(sed -n 's/.*listening on \([0-9]*\)$/\1/p' "$server/log")
	[ -z "$port" ] || break
	sleep 0.1
done
say listeningOn "$port"
say connectionToken "$(cat "$server/token")"
say osReleaseId "$(. /etc/os-release && echo "$ID")"
say arch "$(uname -m)"
say tmpDir "${XDG_RUNTIME_DIR:-/tmp}"
say platform linux
say pid "$pid"
echo "$ID: end"
