//! Redis from Debian's packages. Every write is in its append-only file, which is brought to the
//! disk once a second.

use berth_addon_kit::{Error, Guest, Options, Request, Server, Spec, Task, spec, task};

const PORT: u16 = 6379;
/// What the server needs beside keys and values: buffers, and pages that change while a child
/// writes the file anew.
const OVERHEAD_MIB: u32 = 64;

/// The password is read from a pipe: neither the command nor the server's environment has it.
const START: &str = r#"exec env -u PASSWORD redis-server <(printf 'requirepass %s\n' "$PASSWORD") \
--port "$PORT" --bind 0.0.0.0 --dir /data --save '' --appendonly yes \
--maxmemory "${MAXMEMORY_MIB}mb" --maxmemory-policy noeviction \
--repl-diskless-sync-delay 0 --logfile ''"#;

/// By way of a file: what marks the end of a transfer would stay behind a backup in a pipe.
const BACKUP: &str = r#"set -eu
umask 077
work=$(mktemp -d /data/backup.XXXXXX)
trap 'rm -rf "$work"' EXIT
export REDISCLI_AUTH="$PASSWORD"
redis-cli -p "$PORT" --rdb "$work/dump.rdb" >&2
redis-check-rdb "$work/dump.rdb" >&2
cat "$work/dump.rdb""#;

/// A second server reads the backup, so that one that is damaged is refused before anything is
/// lost; the first one becomes its copy, and then stands alone again.
const RESTORE: &str = r#"set -eu
umask 077
work=$(mktemp -d /data/restore.XXXXXX)
second=
copy() { env -u REDISCLI_AUTH redis-cli -s "$work/socket" "$@"; }
undo() {
    [ -z "$second" ] || copy shutdown nosave >/dev/null 2>&1 || kill -9 "$second" || true
    rm -rf "$work"
}
trap undo EXIT
cat > "$work/dump.rdb"
redis-check-rdb "$work/dump.rdb" >/dev/null
redis-server --port 0 --unixsocket "$work/socket" --dir "$work" --save '' --appendonly no \
    --repl-diskless-sync-delay 0 --logfile "$work/log" &
second=$!
for try in $(seq 600); do
    [ "$(copy ping 2>/dev/null || true)" = PONG ] && break
    kill -0 "$second" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
[ "$(copy ping)" = PONG ]
export REDISCLI_AUTH="$PASSWORD"
own() { redis-cli -p "$PORT" "$@"; }
[ "$(own ping)" = PONG ]
copy config set bind 127.0.0.1 >/dev/null
copy config set port 6380 >/dev/null
[ "$(own replicaof 127.0.0.1 6380)" = OK ]
for try in $(seq 6000); do
    own info replication | grep -q '^master_link_status:up' && break
    sleep 0.1
done
done=no
own info replication | grep -q '^master_link_status:up' && done=yes
[ "$(own replicaof no one)" = OK ]
[ "$done" = yes ]"#;

struct Redis;

impl Guest for Redis {
    fn provision(request: Request) -> Result<Spec, Error> {
        let options = Options::of(&request)?;
        Ok(spec(Server {
            name: "redis",
            package: "redis-server",
            start: START,
            port: PORT,
            memory_mib: options.memory_mib * 2 + OVERHEAD_MIB,
            size_mib: options.size_mib,
            variable: ("MAXMEMORY_MIB", options.memory_mib),
            export: ("REDIS_URL", format!("redis://:${{secret:PASSWORD}}@${{host}}:{PORT}/0")),
        }))
    }

    fn backup(_: Request) -> Result<Task, Error> {
        Ok(task(BACKUP))
    }

    fn restore(_: Request) -> Result<Task, Error> {
        Ok(task(RESTORE))
    }
}

berth_addon_kit::export!(Redis with_types_in berth_addon_kit::bindings);
