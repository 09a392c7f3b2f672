//! PostgreSQL from Debian's packages. One database `app`, owned by the role `app`; the superuser
//! is reached from inside its own container only.

use berth_addon_kit::{Error, Guest, Options, Request, Server, Spec, Task, spec, task};

const PORT: u16 = 5432;

/// The cluster is made under another name and renamed when it is whole. SIGTERM would wait for
/// clients; SIGINT ends their sessions and writes everything down.
const START: &str = r#"set -eu
umask 077
export PATH=/usr/lib/postgresql/15/bin:$PATH
if [ ! -d /data/cluster ]; then
    rm -rf /data/new
    initdb -D /data/new -U postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    # It ends well whatever becomes of a statement, so its words say. They may hold the password.
    said=$(printf "CREATE ROLE app LOGIN PASSWORD '%s'\nCREATE DATABASE app OWNER app\n" "$PASSWORD" |
        postgres --single -D /data/new postgres 2>&1)
    case "$said" in
    *ERROR:* | *FATAL:* | *PANIC:*) echo 'the role and the database could not be made' >&2; exit 1 ;;
    esac
    echo 'host app app all scram-sha-256' >> /data/new/pg_hba.conf
    sync -f /data/new
    mv /data/new /data/cluster
fi
unset PASSWORD
postgres -D /data/cluster -c listen_addresses='*' -c port="$PORT" \
    -c unix_socket_directories=/tmp -c shared_buffers="${SHARED_BUFFERS_MIB}MB" \
    -c dynamic_shared_memory_type=mmap &
server=$!
trap 'kill -INT "$server"' TERM INT
set +e
while :; do
    wait "$server"
    code=$?
    kill -0 "$server" 2>/dev/null || exit "$code"
done"#;

const BACKUP: &str = r#"export PATH=/usr/lib/postgresql/15/bin:$PATH
exec pg_dump --format=custom -h /tmp -p "$PORT" -U postgres app"#;

/// All of it in one transaction, so that a backup that is damaged changes nothing.
const RESTORE: &str = r#"set -eu
umask 077
export PATH=/usr/lib/postgresql/15/bin:$PATH
work=$(mktemp -d /data/restore.XXXXXX)
trap 'rm -rf "$work"' EXIT
cat > "$work/dump"
pg_restore --no-owner --role=app -f "$work/sql" "$work/dump"
{
    cat <<'SQL'
SET lock_timeout = '60s';
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
END
$$;
CREATE SCHEMA public AUTHORIZATION app;
SET ROLE app;
SQL
    sed '/^CREATE SCHEMA public;$/d' "$work/sql"
} > "$work/all"
psql -h /tmp -p "$PORT" -U postgres -d app -X -q -o /dev/null -v ON_ERROR_STOP=1 \
    --single-transaction -f "$work/all""#;

struct Postgresql;

impl Guest for Postgresql {
    fn provision(request: Request) -> Result<Spec, Error> {
        let options = Options::of(&request)?;
        Ok(spec(Server {
            name: "postgresql",
            package: "postgresql-15",
            start: START,
            port: PORT,
            memory_mib: options.memory_mib,
            size_mib: options.size_mib,
            variable: ("SHARED_BUFFERS_MIB", options.memory_mib / 4),
            export: (
                "DATABASE_URL",
                format!("postgres://app:${{secret:PASSWORD}}@${{host}}:{PORT}/app"),
            ),
        }))
    }

    fn backup(_: Request) -> Result<Task, Error> {
        Ok(task(BACKUP))
    }

    fn restore(_: Request) -> Result<Task, Error> {
        Ok(task(RESTORE))
    }
}

berth_addon_kit::export!(Postgresql with_types_in berth_addon_kit::bindings);
