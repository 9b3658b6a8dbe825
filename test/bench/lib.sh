# Sourced by run.sh: two servers, timing, medians.

bench_start() {
	docrep_install_if_unavoidable
	BASE=$(as_user mktemp -d /tmp/docrep-bench.XXXXXX)
	cp -r "$STAGE" "$BASE/stage"
	chmod -R a+rX "$BASE/stage"
	local n
	for n in a b; do
		as_user "$PG_BINDIR/initdb" -D "$BASE/$n" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
		as_user mkdir "$BASE/sock_$n"
		{
			STAGE=$BASE/stage docrep_conf
			cat <<-CONF
				fsync = on
				unix_socket_directories = '$BASE/sock_$n'
				listen_addresses = ''
				shared_buffers = 1GB
				max_wal_size = 8GB
				checkpoint_timeout = 1h
				autovacuum = off
				wal_level = logical
				track_commit_timestamp = on
			CONF
		} | as_user tee -a "$BASE/$n/postgresql.conf" >/dev/null
		as_user "$PG_BINDIR/pg_ctl" -D "$BASE/$n" -l "$BASE/$n.log" -w start >/dev/null
		on $n -d postgres -c "CREATE DATABASE bench" >/dev/null
		on $n -c "CREATE EXTENSION docrep" >/dev/null
	done
	make_source
}

bench_stop() {
	docrep_stop_servers "$BASE"
	rm -rf "$BASE"
}

# psql on server a or b
on() {
	local n=$1
	shift
	PGOPTIONS='-c client_min_messages=warning' "$PG_BINDIR/psql" -XqAt -v ON_ERROR_STOP=1 \
		-h "$BASE/sock_$n" -p 5432 -U postgres -d bench "$@"
}

endpoint() {
	local socket=$BASE/sock_$1
	echo "postgresql://postgres@${socket//\//%2F}:5432/bench#$2"
}

# milliseconds that the last of the given commands takes on a server
ms() {
	local n=$1
	shift
	{
		printf '%s;\n' "${@:1:$#-1}"
		echo '\o /dev/null'
		echo '\timing on'
		printf '%s;\n' "${@: -1}"
	} | on "$n" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -1
}

# The documents: about 400 bytes each, in a table that both kinds are loaded from.
make_source() {
	on a >/dev/null <<-SQL
		CREATE UNLOGGED TABLE src AS
		SELECT 'doc-' || lpad(g::text, 7, '0') AS id,
			jsonb_build_object('name', 'Name ' || g, 'n', g, 'tags', ARRAY['a', 'b', 'c'],
				'addr', jsonb_build_object('street', 'Street ' || g, 'zip', g % 10000),
				'text', repeat(md5(g::text), 8)) AS doc
		FROM generate_series(1, $ROWS) g;
		VACUUM ANALYZE src;
	SQL
}

document_size() {
	echo "documents: $(on a -c "SELECT round(avg(length(doc::text))) || ' bytes as JSON text, ' || round(avg(pg_column_size(doc))) || ' as jsonb' FROM src")"
}

# median, least and greatest of the numbers on standard input
stats() {
	sort -n | awk '{v[NR] = $1} END {
		m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
		printf "%.2f %.2f %.2f\n", m, v[1], v[NR]}'
}

median() {
	stats | cut -d' ' -f1
}

# quotient of two numbers
over() {
	awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'
}

# One line of the result: what, the ratio, the aim, and what it was made from.
result() {
	printf '%-62s ratio %-7s aim %-10s %s\n' "$1" "$2" "$3" "${4:-}"
}

# Bare and document table, empty.
fresh_tables() {
	on "$1" >/dev/null <<-SQL
		DROP TABLE IF EXISTS bare, docs;
		CREATE TABLE bare (id text PRIMARY KEY, doc jsonb);
		SELECT docrep.create_table('docs');
		CHECKPOINT;
	SQL
}

full_tables() {
	fresh_tables "$1"
	on "$1" >/dev/null <<-SQL
		INSERT INTO bare SELECT * FROM src;
		INSERT INTO docs (_id, doc) SELECT * FROM src;
		VACUUM ANALYZE bare;
		VACUUM ANALYZE docs;
		CHECKPOINT;
	SQL
}
