# 1 to 4: writing

bench_1() {
	local bare docs
	bare=() docs=()
	for ((i = 0; i < ROUNDS; i++)); do
		fresh_tables a
		bare+=("$(ms a 'INSERT INTO bare SELECT * FROM src')")
		docs+=("$(ms a 'INSERT INTO docs (_id, doc) SELECT * FROM src')")
	done
	local b d
	b=$(printf '%s\n' "${bare[@]}" | median)
	d=$(printf '%s\n' "${docs[@]}" | median)
	result "1 bulk insert : bare table" "$(over "$b" "$d")" ">= 0.6" "$d ms : $b ms"
}

pgbench_tps() {
	PGOPTIONS='-c client_min_messages=warning' "$PG_BINDIR/pgbench" -n -h "$BASE/sock_a" -p 5432 \
		-U postgres -c 8 -j 2 -T "${BENCH_SECONDS:-8}" -f "$1" bench 2>"$BASE/pgbench.err" |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

bench_2() {
	local put upsert body
	body="jsonb_build_object('name', 'Name ' || :n, 'n', :n, 'tags', ARRAY['a', 'b', 'c'], 'addr', jsonb_build_object('street', 'Street ' || :n, 'zip', :n % 10000), 'text', repeat(md5(:n::text), 8))"
	as_user tee "$BASE/put.sql" >/dev/null <<-SQL
		\set n random(1, 9000000000000000000)
		SELECT docrep.put('docs', $body || jsonb_build_object('_id', 'k' || :n));
	SQL
	as_user tee "$BASE/upsert.sql" >/dev/null <<-SQL
		\set n random(1, 9000000000000000000)
		INSERT INTO bare VALUES ('k' || :n, $body) ON CONFLICT (id) DO UPDATE SET doc = EXCLUDED.doc;
	SQL
	put=() upsert=()
	for ((i = 0; i < ROUNDS; i++)); do
		fresh_tables a
		upsert+=("$(pgbench_tps "$BASE/upsert.sql")")
		put+=("$(pgbench_tps "$BASE/put.sql")")
	done
	local p u
	p=$(printf '%s\n' "${put[@]}" | median)
	u=$(printf '%s\n' "${upsert[@]}" | median)
	result "2 put, 8 clients, fsync on : upsert into the bare table" "$(over "$p" "$u")" ">= 0.85" "$p/s : $u/s"
}

bench_3() {
	local bare docs
	bare=() docs=()
	for ((i = 0; i < ROUNDS; i++)); do
		full_tables a
		bare+=("$(ms a "UPDATE bare SET doc = doc || '{\"x\": 1}'")")
		docs+=("$(ms a "UPDATE docs SET doc = doc || '{\"x\": 1}'")")
	done
	local b d
	b=$(printf '%s\n' "${bare[@]}" | median)
	d=$(printf '%s\n' "${docs[@]}" | median)
	result "3 UPDATE of every document : bare table" "$(over "$b" "$d")" ">= 0.55" "$d ms : $b ms"
}

# 200 documents are updated together, generation after generation; the table is
# rewritten before the generations that are timed, so that both windows begin
# without dead rows.
bench_4() {
	local early late
	on a >/dev/null <<-SQL
		DROP TABLE IF EXISTS docs;
		SELECT docrep.create_table('docs');
		INSERT INTO docs (_id, doc) SELECT * FROM src ORDER BY id LIMIT 200;
	SQL
	early=$(update_window 2 41)
	on a -c "DO \$\$ BEGIN FOR i IN 42..959 LOOP UPDATE docs SET doc = doc || jsonb_build_object('x', i); IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END \$\$" >/dev/null
	late=$(update_window 960 1000)
	local generation
	generation=$(on a -c "SELECT min(docrep.rev_generation(_rev)) FROM docs")
	result "4 update at generation $generation : at generation 2 to 41" "$(over "$late" "$early")" "<= 1.3" "$late us : $early us a document"
}

update_window() {
	on a >/dev/null -c "VACUUM FULL docs" -c "CHECKPOINT"
	for ((g = $1; g <= $2; g++)); do
		ms a "UPDATE docs SET doc = doc || jsonb_build_object('x', $g)"
	done | median | awk '{printf "%.2f", $1 * 1000 / 200}'
}
