# 6 to 9: replication between two servers

replicate_ms() {
	ms b "SELECT docrep.replicate('$(endpoint a docs)', 'docs'${1:+, '$1'})"
}

# Native logical replication, streaming: apply of one big insert, from its commit
# to all rows there.
native_apply_ms() {
	on a >/dev/null -c "DROP TABLE IF EXISTS native" -c "CREATE TABLE native (id text PRIMARY KEY, doc jsonb)" \
		-c "DROP PUBLICATION IF EXISTS pub" -c "CREATE PUBLICATION pub FOR TABLE native"
	on b >/dev/null -c "DROP TABLE IF EXISTS native" -c "CREATE TABLE native (id text PRIMARY KEY, doc jsonb)"
	on b >/dev/null -c "CREATE SUBSCRIPTION sub CONNECTION 'host=$BASE/sock_a port=5432 user=postgres dbname=bench' PUBLICATION pub WITH (copy_data = false)"
	wait_for b "SELECT pid IS NOT NULL AND latest_end_lsn IS NOT NULL FROM pg_stat_subscription WHERE subname = 'sub'"
	on a -c "INSERT INTO native SELECT * FROM src"
	local start
	start=$(date +%s%N)
	wait_for b "SELECT count(*) = $ROWS FROM native"
	echo $((($(date +%s%N) - start) / 1000000))
	on b >/dev/null -c "DROP SUBSCRIPTION sub"
}

native_copy_ms() {
	on b >/dev/null -c "TRUNCATE native"
	local start
	start=$(date +%s%N)
	on b >/dev/null -c "CREATE SUBSCRIPTION sub CONNECTION 'host=$BASE/sock_a port=5432 user=postgres dbname=bench' PUBLICATION pub"
	wait_for b "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"
	echo $((($(date +%s%N) - start) / 1000000))
	on b >/dev/null -c "DROP SUBSCRIPTION sub"
}

wait_for() {
	until [ "$(on "$1" -c "$2")" = t ]; do
		sleep 0.02
	done
}

bench_6() {
	local native copy ours
	native=() copy=() ours=()
	full_tables a
	for ((i = 0; i < ROUNDS; i++)); do
		native+=("$(native_apply_ms)")
		copy+=("$(native_copy_ms)")
		on b >/dev/null -c "DROP TABLE IF EXISTS docs" -c "SELECT docrep.create_table('docs')" -c CHECKPOINT
		ours+=("$(replicate_ms)")
	done
	local n c o
	n=$(printf '%s\n' "${native[@]}" | median)
	c=$(printf '%s\n' "${copy[@]}" | median)
	o=$(printf '%s\n' "${ours[@]}" | median)
	MOVED=$o
	result "6 replication of $ROWS documents : native streaming apply" "$(over "$n" "$o")" ">= 1.0" "$o ms : $n ms"
	result "6 the same : native initial copy" "$(over "$c" "$o")" "" "$o ms : $c ms"
}

bench_7() {
	local again
	[ -n "${MOVED:-}" ] || bench_6
	again=()
	for ((i = 0; i < ROUNDS; i++)); do
		again+=("$(replicate_ms '{"use_checkpoints": false}')")
	done
	local a
	a=$(printf '%s\n' "${again[@]}" | median)
	result "7 moving $ROWS documents : finding them all there" "$(over "$MOVED" "$a")" ">= 5" "$MOVED ms : $a ms"
}

# Latency from the commit of a write to the commit that makes it visible on the
# other side, by the two servers' commit timestamps (one machine, one clock).
bench_8() {
	local table
	for table in a b; do
		on $table >/dev/null -c "DROP TABLE IF EXISTS live" -c "SELECT docrep.create_table('live')"
	done
	on b >/dev/null -c "SELECT docrep.replicate('$(endpoint a live)', 'live', '{\"continuous\": true}')"
	for ((i = 1; i <= 200; i++)); do
		on a -c "INSERT INTO live (_id, doc) VALUES ('l$i', '{\"n\": $i}')"
		wait_for b "SELECT EXISTS (SELECT FROM live WHERE _id = 'l$i')"
	done
	on a -c "SELECT _id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM live ORDER BY 1" >"$BASE/commits_a"
	on b -c "SELECT _id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM live ORDER BY 1" >"$BASE/commits_b"
	join -t'|' "$BASE/commits_a" "$BASE/commits_b" | awk -F'|' '{printf "%.3f\n", ($3 - $2) * 1000}' | sort -n >"$BASE/latency"
	on b >/dev/null -c "SELECT docrep.replicate('$(endpoint a live)', 'live', '{\"continuous\": true, \"cancel\": true}')"
	result "8 latency, idle pair over libpq, ms: p50" "$(sed -n 100p "$BASE/latency")" "<= 5" "p99 $(sed -n 198p "$BASE/latency") (aim <= 25), of $(wc -l <"$BASE/latency")"
}

bench_9() {
	local times
	on a >/dev/null <<-SQL
		DROP TABLE IF EXISTS one, two;
		SELECT docrep.create_table('one'), docrep.create_table('two');
		INSERT INTO one (_id, doc) SELECT * FROM src LIMIT 100;
		SELECT docrep.replicate('one', 'two');
	SQL
	times=()
	for ((i = 0; i < 20; i++)); do
		times+=("$(ms a "SELECT docrep.replicate('one', 'two')")")
	done
	result "9 one-shot replication with nothing to do, ms" "$(printf '%s\n' "${times[@]}" | median)" "<= 30" "of 20"
}

# Peak resident memory of a worker that is not shared memory, by number of documents.
bench_10() {
	local size pid peak
	for size in $MEMORY; do
		on a >/dev/null -c "DROP TABLE IF EXISTS docs" -c "SELECT docrep.create_table('docs')" \
			-c "INSERT INTO docs (_id, doc) SELECT 'm' || g, (SELECT doc FROM src LIMIT 1) FROM generate_series(1, $size) g"
		on b >/dev/null -c "DROP TABLE IF EXISTS docs" -c "SELECT docrep.create_table('docs')"
		on b >/dev/null -c "SELECT docrep.replicate('$(endpoint a docs)', 'docs', '{\"continuous\": true}')"
		wait_for b "SELECT count(*) = $size FROM docs"
		pid=$(on b -c "SELECT pid FROM docrep.active_tasks")
		peak=$(awk '/^RssAnon/ {print $2}' "/proc/$pid/status")
		on b >/dev/null -c "SELECT docrep.replicate('$(endpoint a docs)', 'docs', '{\"continuous\": true, \"cancel\": true}')"
		printf '%-62s %s kB\n' "10 private memory of a worker after $size documents" "$peak"
	done
}
