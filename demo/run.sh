#!/bin/bash
# The demo: real documents in two servers that both accept writes.
#
#   make demo        set up, build, and run it
#   demo/run.sh      run it again ("make stage" must have been done)
#
# Two throw-away PostgreSQL servers, "paris" and "tokyo", are made in a temporary
# directory and reach each other through unix sockets; nothing is installed, no
# existing server is touched, and all of it is removed at the end.  Everything
# that is shown is what was run and what came back.  The checks are real: if the
# two sides differ in the end, or an expectation along the way fails, the last
# line says so and the exit status is not zero.
set -euo pipefail

. "$(dirname "$0")/../test/lib/env.sh"

DOCUMENTS_PL=$ROOT/demo/documents.pl
TIMEOUT=60                       # seconds until a wait is given up
SECONDS=0
WORK=
outcome="it did not come to its end"

finish() {
	local status=$?
	trap '' INT TERM
	if [ -n "$WORK" ]; then
		[ $status = 0 ] || { echo; grep -E 'ERROR|FATAL|PANIC|failed|terminated' "$WORK"/*/log 2>/dev/null | tail -n 20; }
		docrep_stop_servers "$WORK"
		rm -rf "$WORK"
	fi
	echo
	if [ $status = 0 ]; then
		echo "demo: OK after $SECONDS s: $outcome"
	else
		echo "demo: FAILED after $SECONDS s: $outcome"
	fi
	exit $status
}
trap finish EXIT
trap 'outcome=interrupted; exit 130' INT TERM

fail() {
	outcome=$*
	exit 1
}

# ---- talking to the servers ---------------------------------------------------

step_number=0
step() {
	step_number=$((step_number + 1))
	printf '\n== %d. %s\n' "$step_number" "$*"
}

say() {
	printf '%s\n' "$@"
}

# psql SERVER ARGUMENT...   Each server has one database, of the same name.
psql_at() {
	local server=$1
	shift
	PGOPTIONS='--client-min-messages=warning' "$PG_BINDIR/psql" -X -v ON_ERROR_STOP=1 \
		-v paris="$URL_PARIS" -v tokyo="$URL_TOKYO" -v data="$WORK/atlas.jsonl" \
		-h "$WORK/$server" -p 5432 -U postgres -d "$server" "$@"
}

# Runs the SQL that comes on standard input, and shows each statement and what came
# back.  A statement ends at the end of a line.
show() {
	local server=$1 line statement= quotes prompt="=#"
	{
		printf '%s\n' '\set QUIET on' '\pset null (null)' '\timing on' '\set QUIET off'
		while IFS= read -r line; do
			[ -n "$statement" ] || echo '\echo'
			statement+=$line$'\n'
			line=${line//\\/\\\\}
			echo "\\echo '$server$prompt ${line//\'/\'\'}'"
			prompt="-#"
			quotes=${statement//[^\$]/}    # inside $$ ... $$ no line ends the statement
			if [[ ($line == *\; || $line == \\*) && $((${#quotes} % 4)) = 0 ]]; then
				printf '%s' "$statement"
				statement=
				prompt="=#"
			fi
		done
	} >"$WORK/show.sql"
	psql_at "$server" <"$WORK/show.sql" || fail "an SQL statement failed at $server"
}

# The one value that a query gives.
ask() {
	psql_at "$1" -qAt -c "$2"
}

# Waits until a query gives "t", and says how long that took.
wait_for() {
	local server=$1 what=$2 query=$3 start=$SECONDS
	until [ "$(ask "$server" "$query" 2>&1)" = t ]; do
		[ $((SECONDS - start)) -lt $TIMEOUT ] || fail "waited $TIMEOUT s in vain at $server: $what"
		sleep 0.05
	done
	echo "   $server: $what"
}

# check WHAT GOT WANTED
check() {
	[ "$2" = "$3" ] || fail "$1: \"$2\" and not \"$3\""
	echo "   checked: $1"
}

# ---- the servers --------------------------------------------------------------

start_server() {
	local name=$1 dir=$WORK/$1
	as_user mkdir "$dir"
	as_user "$PG_BINDIR/initdb" -D "$dir/data" -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 >/dev/null
	# The socket is in a directory that only the servers' user can enter: so
	# trust is safe.  The demo is about real times: fsync stays on.
	{
		STAGE=$WORK/stage docrep_conf
		cat <<-CONF
			fsync = on
			track_commit_timestamp = on
			listen_addresses = ''
			unix_socket_directories = '$dir'
			log_line_prefix = '%m [%p] %q%d: '
		CONF
	} | as_user tee -a "$dir/data/postgresql.conf" >/dev/null
	as_user "$PG_BINDIR/pg_ctl" -D "$dir/data" -l "$dir/log" -w start >/dev/null || {
		tail -n 20 "$dir/log"
		fail "the server $name did not start"
	}
	"$PG_BINDIR/createdb" -h "$dir" -p 5432 -U postgres "$name"
}

# Sockets have short paths, so the directory is below /tmp.
WORK=$(as_user mktemp -d /tmp/docrep-demo.XXXXXX)
URL_PARIS=postgresql://postgres@${WORK//\//%2F}%2Fparis:5432/paris#atlas
URL_TOKYO=postgresql://postgres@${WORK//\//%2F}%2Ftokyo:5432/tokyo#atlas

cat <<TEXT
docrep $(sed -n "s/^default_version *= *'\(.*\)'/\1/p" "$ROOT/docrep.control") in $("$PG_BINDIR/postgres" --version)

Lines that begin with "paris=#" and "tokyo=#" are what is sent to the servers; what follows is
their answer.
TEXT

step "Two servers"
docrep_install_if_unavoidable
cp -r "$STAGE" "$WORK/stage"
chmod -R a+rX "$WORK/stage"
start_server paris
start_server tokyo
say "Two servers run in $WORK, each with one database: paris and tokyo." \
	"They are endpoints of each other as" \
	":paris  $URL_PARIS" \
	":tokyo  $URL_TOKYO"
show paris <<'SQL'
CREATE EXTENSION docrep;
SQL
show tokyo <<'SQL'
CREATE EXTENSION docrep;
SQL

# ---- loading ------------------------------------------------------------------

step "Real documents into paris"
"$DOCUMENTS_PL" >"$WORK/atlas.jsonl"
chmod a+r "$WORK/atlas.jsonl"
documents=$(wc -l <"$WORK/atlas.jsonl")
say "From Debian's package iso-codes: $documents languages, countries, subdivisions, currencies and" \
	"scripts, one JSON object a line. The id is the member _id of each object. (The odd quote and" \
	"delimiter make COPY take a line as it is.)"
show paris <<'SQL'
SELECT docrep.create_table('atlas');
COPY atlas(doc) FROM :'data' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');
SELECT doc->>'kind' AS kind, count(*), count(doc->'names') AS "with translations",
       pg_size_pretty(sum(length(doc::text))) AS json
FROM atlas GROUP BY 1 ORDER BY 2 DESC;
SELECT _id, _rev, doc->>'name' AS name, doc->'names'->>'ja' AS ja, doc->'names'->>'ar' AS ar,
       doc->'names'->>'hi' AS hi
FROM atlas WHERE _id IN ('country:JP', 'language:amh', 'currency:EUR', 'script:Deva');
SQL
check "all $documents documents are in" "$(ask paris 'SELECT count(*) FROM atlas')" "$documents"

# ---- the first copy -----------------------------------------------------------

step "A first copy: tokyo pulls from paris, once"
show tokyo <<'SQL'
SELECT r->'ok' AS ok, r->'docs_read' AS docs_read, r->'docs_written' AS docs_written,
       r->'doc_write_failures' AS failures, r->>'source_last_seq' AS source_last_seq
FROM docrep.replicate(:'paris', 'atlas', '{"create_target": true}') AS r;
SQL
say "The same once more moves nothing:"
show tokyo <<'SQL'
SELECT r->'ok' AS ok, r->'no_changes' AS no_changes
FROM docrep.replicate(:'paris', 'atlas') AS r;
SQL
check "tokyo has all $documents documents" "$(ask tokyo 'SELECT count(*) FROM atlas')" "$documents"

# ---- both ways, continuously --------------------------------------------------

step "Continuous replication both ways: each pulls from the other"
show tokyo <<'SQL'
SELECT docrep.replicate(:'paris', 'atlas', '{"continuous": true}');
SQL
show paris <<'SQL'
SELECT docrep.replicate(:'tokyo', 'atlas', '{"continuous": true}');
SQL
wait_for paris "has caught up" "SELECT coalesce(bool_and(state IN ('idle', 'parked')), false) FROM docrep.active_tasks"
wait_for tokyo "has caught up" "SELECT coalesce(bool_and(state IN ('idle', 'parked')), false) FROM docrep.active_tasks"

step "Edits on both sides, with plain SQL"
say "In paris: Amharic's Chinese name in this data is wrong (阿拉伯语 is Arabic), and five" \
	"currencies are no longer in use."
show paris <<'SQL'
UPDATE atlas SET doc = jsonb_set(doc, '{names,zh_CN}', '"阿姆哈拉语"')
WHERE _id = 'language:amh' RETURNING _id, _rev, doc->'names'->>'zh_CN' AS zh_cn;
DELETE FROM atlas WHERE _id IN ('currency:CUC', 'currency:HRK', 'currency:SLL', 'currency:ANG',
                                'currency:BGN') RETURNING _id;
SQL
say "In tokyo: a new document, and all of Japan's prefectures get a member."
show tokyo <<'SQL'
INSERT INTO atlas(_id, doc) VALUES ('language:tok-demo',
       '{"kind": "language", "name": "Toki Pona", "names": {"tok": "toki pona"}}') RETURNING _rev;
WITH edited AS (
       UPDATE atlas SET doc = doc || '{"region": "Japan", "地域": "日本"}'
       WHERE _id LIKE 'subdivision:JP-%' RETURNING 1)
SELECT count(*) AS edited FROM edited;
SQL
prefectures=$(ask tokyo "SELECT count(*) FROM atlas WHERE _id LIKE 'subdivision:JP-%'")
wait_for tokyo "has what was edited in paris" "SELECT
	(SELECT doc->'names'->>'zh_CN' = '阿姆哈拉语' FROM atlas WHERE _id = 'language:amh')
	AND NOT EXISTS (SELECT 1 FROM atlas WHERE _id IN ('currency:CUC', 'currency:HRK', 'currency:SLL',
		'currency:ANG', 'currency:BGN'))"
wait_for paris "has what was edited in tokyo" "SELECT
	EXISTS (SELECT 1 FROM atlas WHERE _id = 'language:tok-demo')
	AND (SELECT count(*) FROM atlas WHERE doc->>'地域' = '日本') = $prefectures"
say "" "Seen from the other side each:"
show tokyo <<'SQL'
SELECT _id, _rev, doc->'names'->>'zh_CN' AS zh_cn FROM atlas WHERE _id = 'language:amh';
SELECT docrep.get('atlas', 'currency:HRK') AS kuna,
       docrep.get('atlas', 'currency:HRK', open_revs => '"all"') AS "its tombstone";
SQL
show paris <<'SQL'
SELECT _id, _rev, doc FROM atlas WHERE _id = 'language:tok-demo' OR _id = 'subdivision:JP-13';
SQL

step "How long a commit takes to the other side"
say "50 commits in paris, 20 ms and more between them. The servers note the time of every commit," \
	"by the same clock. fsync is on. (One measurement, on this machine as busy as it now is.)"
show paris <<'SQL'
DO $$
DECLARE country text;
BEGIN
    FOR country IN SELECT _id FROM atlas WHERE _id LIKE 'country:%' ORDER BY _id LIMIT 50 LOOP
        UPDATE atlas SET doc = doc || '{"checked": true}' WHERE _id = country;
        COMMIT;
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
SQL
wait_for tokyo "has all 50" "SELECT count(*) = 50 FROM atlas WHERE doc->'checked' = 'true'"
COMMITS="SELECT _id, pg_xact_commit_timestamp(xmin) AS at FROM atlas WHERE doc->'checked' = 'true'"
psql_at paris -qc "COPY ($COMMITS) TO STDOUT" >"$WORK/commits"
psql_at tokyo -q <<SQL
CREATE TEMP TABLE paris (_id text, at timestamptz);
\copy paris FROM '$WORK/commits'
\echo
SELECT count(*) AS commits,
       round(1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY t.at - p.at))::numeric, 1) AS "p50 ms",
       round(1000 * extract(epoch FROM percentile_cont(0.9) WITHIN GROUP (ORDER BY t.at - p.at))::numeric, 1) AS "p90 ms",
       round(1000 * extract(epoch FROM max(t.at - p.at))::numeric, 1) AS "slowest ms"
FROM paris p JOIN ($COMMITS) t USING (_id);
SQL

# ---- a conflict ---------------------------------------------------------------

# Pauses or resumes both servers, and waits until their workers have done so.
pause() {
	local server
	for server in paris tokyo; do
		show $server <<-SQL
			ALTER SYSTEM SET docrep.paused = $1;
			SELECT pg_reload_conf();
		SQL
		wait_for $server "$([ "$1" = on ] && echo "its worker has paused" || echo "its worker goes on")" \
			"SELECT count(*) = 1 AND bool_and((query LIKE 'paused%') = $([ "$1" = on ] && echo true || echo false))
			 FROM pg_stat_activity WHERE backend_type LIKE 'docrep worker%'"
	done
}

step "A conflict, on purpose: replication is paused, both sides edit the same document"
pause on
show paris <<'SQL'
UPDATE atlas SET doc = doc || '{"capital": "Ankara", "calling_code": "+90"}'
WHERE _id = 'country:TR' RETURNING _rev;
SQL
show tokyo <<'SQL'
UPDATE atlas SET doc = doc || '{"capital": "Angora", "currency": "TRY"}'
WHERE _id = 'country:TR' RETURNING _rev;
SQL
pause off
CONFLICT="SELECT coalesce(jsonb_array_length(docrep.get('atlas', 'country:TR', conflicts => true)->'_conflicts') = 1, false)"
wait_for paris "has the conflict" "$CONFLICT"
wait_for tokyo "has the conflict" "$CONFLICT"
say "" "No edit is lost. Both servers have both, and both took the same one as the winner:"
for server in paris tokyo; do
	show $server <<'SQL'
SELECT d->>'_rev' AS winner, d->>'capital' AS capital, d->>'_conflicts' AS conflicts
FROM docrep.get('atlas', 'country:TR', conflicts => true) AS d;
SQL
done
check "the same winner and the same conflict on both sides" \
	"$(ask paris "SELECT docrep.get('atlas', 'country:TR', conflicts => true)")" \
	"$(ask tokyo "SELECT docrep.get('atlas', 'country:TR', conflicts => true)")"
say "" "Both versions in full:"
show tokyo <<'SQL'
SELECT jsonb_pretty(version->'ok' #- '{names}') AS version
FROM jsonb_array_elements(docrep.get('atlas', 'country:TR', open_revs => '"all"')) AS version;
SQL

step "It is resolved in tokyo: what both wrote, and the right capital; the other version is deleted"
show tokyo <<'SQL'
WITH w AS (
       SELECT docrep.get('atlas', 'country:TR', conflicts => true) AS winner
), both_of_them AS (
       SELECT winner, docrep.get('atlas', 'country:TR', rev => winner->'_conflicts'->>0) AS loser
       FROM w)
SELECT written.* FROM both_of_them, docrep.bulk_docs('atlas', jsonb_build_array(
       loser || winner || '{"capital": "Ankara"}',
       jsonb_build_object('_id', 'country:TR', '_rev', loser->'_rev', '_deleted', true))) AS written;
SQL
RESOLVED="SELECT NOT d ? '_conflicts' AND d->>'capital' = 'Ankara' AND d ? 'calling_code' AND d ? 'currency'
	FROM docrep.get('atlas', 'country:TR', conflicts => true) AS d"
wait_for tokyo "has one version, with what both had written" "$RESOLVED"
wait_for paris "has one version, with what both had written" "$RESOLVED"
show paris <<'SQL'
SELECT jsonb_pretty(docrep.get('atlas', 'country:TR', conflicts => true) #- '{names}') AS resolved;
SQL

# ---- comparing ----------------------------------------------------------------

step "Are both sides equal?"
say "Every document and tombstone of paris is compared with tokyo's in SQL: all of its leaf revisions," \
	"the winner's body and history, and the row in the table with its revision tree."
CONTENTS="SELECT c.id, c.deleted,
	(SELECT string_agg(r->>'rev', ' ' ORDER BY r->>'rev') FROM jsonb_array_elements(c.changes) r) AS revs,
	docrep.get('atlas', c.id, rev => c.changes->0->>'rev', revs => true) AS doc, a._rev::text AS rev_column,
	a.doc AS doc_column, a._tree::text AS tree
	FROM docrep.changes('atlas', style => 'all_docs') c LEFT JOIN atlas a ON a._id = c.id"
# Local to both: the last edits have arrived when both feeds show the same.
DIGEST="SELECT md5(string_agg(x::text, E'\n' ORDER BY x.id)) FROM ($CONTENTS) x"
start=$SECONDS
until [ "$(ask paris "$DIGEST")" = "$(ask tokyo "$DIGEST")" ]; do
	[ $((SECONDS - start)) -lt $TIMEOUT ] || break     # the comparison will say what differs
	sleep 0.1
done
psql_at paris -qc "COPY ($CONTENTS) TO STDOUT" >"$WORK/contents"
chmod a+r "$WORK/contents"
psql_at tokyo -q <<SQL
CREATE TEMP TABLE paris (id text, deleted boolean, revs text, doc jsonb, rev_column text,
                         doc_column jsonb, tree text);
\copy paris FROM '$WORK/contents'
CREATE TEMP TABLE tokyo AS $CONTENTS;
CREATE TEMP TABLE difference AS
SELECT id, p AS paris, t AS tokyo FROM paris p FULL JOIN tokyo t USING (id) WHERE p IS DISTINCT FROM t;
\echo
SELECT count(p.id) AS "in paris", count(t.id) AS "in tokyo",
       count(*) FILTER (WHERE p.deleted AND t.deleted) AS tombstones,
       count(*) FILTER (WHERE p.revs = t.revs) AS "same revisions",
       count(*) FILTER (WHERE p.doc::text = t.doc::text) AS "same bodies and histories",
       (SELECT count(*) FROM difference) AS different
FROM paris p FULL JOIN tokyo t USING (id);
SELECT * FROM difference LIMIT 5 \g '$WORK/difference'
SELECT count(*) FROM difference
\g (format=unaligned tuples_only) '$WORK/different'
SELECT count(*) FROM tokyo WHERE NOT deleted
\g (format=unaligned tuples_only) '$WORK/live'
SELECT count(*) FROM tokyo WHERE deleted
\g (format=unaligned tuples_only) '$WORK/dead'
SQL
if [ "$(cat "$WORK/different")" != 0 ]; then
	cut -c 1-300 "$WORK/difference"
	fail "the two sides differ in $(cat "$WORK/different") documents"
fi
check "live documents: what was loaded, 5 less and 1 more" "$(cat "$WORK/live")" "$((documents - 5 + 1))"
check "tombstones: the 5" "$(cat "$WORK/dead")" 5
for server in paris tokyo; do
	check "docrep.check finds nothing wrong at $server" \
		"$(ask $server "SELECT count(*) FROM docrep.check('atlas')")" 0
	check "nothing was rejected at $server" "$(ask $server "SELECT count(*) FROM docrep.rejected_docs")" 0
done

# ---- watching, and the end ----------------------------------------------------

step "Watching"
for server in paris tokyo; do
	wait_for $server "has written its checkpoint" \
		"SELECT coalesce(bool_and(state IN ('idle', 'parked') AND checkpointed_source_seq = through_seq), false) FROM docrep.active_tasks"
	show $server <<'SQL'
\x on
SELECT source, target, state, docs_read, docs_written, doc_write_failures, missing_revisions_found,
       revisions_checked, through_seq, checkpointed_source_seq, progress, error_count
FROM docrep.active_tasks;
SELECT * FROM docrep.checkpoints ORDER BY recorded_at;
SQL
done
# What was written here is what was edited there, once: nothing came twice or was sent back.
WRITTEN="SELECT docs_written || ' written, ' || doc_write_failures || ' refused, ' || error_count || ' errors' FROM docrep.active_tasks"
check "tokyo's edits were written in paris, once each: $prefectures + 1, the conflict, its 2 resolutions" \
	"$(ask paris "$WRITTEN")" "$((prefectures + 1 + 1 + 2)) written, 0 refused, 0 errors"
check "paris' edits were written in tokyo, once each: 1 + 5 + 50, the conflict" \
	"$(ask tokyo "$WRITTEN")" "$((1 + 5 + 50 + 1)) written, 0 refused, 0 errors"

step "The end: both replications are cancelled"
show paris <<'SQL'
SELECT docrep.replicate(:'tokyo', 'atlas', '{"continuous": true, "cancel": true}');
SELECT count(*) AS active FROM docrep.active_tasks;
SQL
show tokyo <<'SQL'
SELECT docrep.replicate(:'paris', 'atlas', '{"continuous": true, "cancel": true}');
SELECT count(*) AS active FROM docrep.active_tasks;
SQL
check "nothing runs in paris" "$(ask paris 'SELECT count(*) FROM docrep.active_tasks')" 0
check "nothing runs in tokyo" "$(ask tokyo 'SELECT count(*) FROM docrep.active_tasks')" 0

outcome="$(cat "$WORK/live") documents and $(cat "$WORK/dead") tombstones are the same in paris and tokyo, to the last revision"
