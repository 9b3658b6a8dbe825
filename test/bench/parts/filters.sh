# 16, 17: filters

# The same question by hand and as a selector, both of them reading every row.
bench_16() {
	local hand times selector by_hand by_selector found
	full_tables a
	by_hand="SELECT count(*) FROM docs WHERE (doc->'n')::numeric >= 1000 AND (doc->'addr'->'zip')::numeric < 5000 AND doc->>'name' <> 'Name 7'"
	selector='{"n": {"$gte": 1000}, "addr": {"zip": {"$lt": 5000}}, "name": {"$ne": "Name 7"}}'
	by_selector="SELECT count(*) FROM docs WHERE docrep.matches(doc, '$selector')"
	found="SELECT count(*) FROM docrep.find('docs', '$selector', fields => '{_id}')"
	if [ "$(on a -c "$by_hand")" != "$(on a -c "$by_selector")" ] || [ "$(on a -c "$by_hand")" != "$(on a -c "$found")" ]; then
		echo "16: the selector counts something else" >&2
		return 1
	fi
	hand=() times=()
	for ((i = 0; i < ROUNDS; i++)); do
		hand+=("$(ms a "SET max_parallel_workers_per_gather = 0" "$by_hand")")
		times+=("$(ms a "SET max_parallel_workers_per_gather = 0" "$by_selector")")
	done
	local h s
	h=$(printf '%s\n' "${hand[@]}" | median)
	s=$(printf '%s\n' "${times[@]}" | median)
	result "16 selector over every document : the same by hand in SQL" "$(over "$h" "$s")" ">= 0.5" "$s ms : $h ms"
}

# A JavaScript filter over small documents, against the same function and documents in
# express-pouchdb, and against a SQL function here.
bench_17() {
	local n=100000 i h c here=() there=() sql=() query="filter => 'app/due', query_params => '{\"type\": \"order\"}'" found
	http_start
	on a >/dev/null <<-SQL
		DROP TABLE IF EXISTS small;
		SELECT docrep.create_table('small');
		INSERT INTO small (_id, doc) VALUES ('_design/app',
			'{"filters": {"due": "function (doc, req) { return doc.type === req.query.type && doc.n % 10 === 0; }"}}');
		INSERT INTO small (_id, doc) SELECT 'd' || lpad(g::text, 6, '0'), jsonb_build_object('type', CASE g % 3 WHEN 0 THEN 'user' ELSE 'order' END, 'n', g)
			FROM generate_series(1, $n) g;
		CREATE OR REPLACE FUNCTION due(doc jsonb, req jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
			\$\$SELECT coalesce(doc->>'type' = req->'query'->>'type' AND (doc->>'n')::int % 10 = 0, false)\$\$;
		VACUUM ANALYZE small;
	SQL
	on a -c "COPY (SELECT doc || jsonb_build_object('_id', _id) FROM small ORDER BY _id) TO STDOUT" |
		sed 's/\\\\/\\/g' | as_user tee "$BASE/small.jsonl" >/dev/null
	js load "$HTTP" small "$BASE/small.jsonl" >/dev/null
	found=$(on a -c "SELECT count(*) FROM docrep.changes('small', $query)")
	for ((i = 0; i < ROUNDS; i++)); do
		here+=("$(ms a "SELECT id FROM docrep.changes('small', $query)")")
		sql+=("$(ms a "SELECT id FROM docrep.changes('small', ${query/app\/due/public.due})")")
		read -r h c < <(js filtered "$HTTP" small 'filter=app/due&type=order')
		there+=("$h")
		if [ "$c" != "$found" ]; then
			echo "17: the filter lets $found documents pass here and $c there" >&2
			return 1
		fi
	done
	local o p s
	o=$(printf '%s\n' "${here[@]}" | median)
	p=$(printf '%s\n' "${there[@]}" | median)
	s=$(printf '%s\n' "${sql[@]}" | median)
	result "17 JavaScript filter over $n small documents : express-pouchdb" "$(over "$p" "$o")" ">= 1" "$o ms : $p ms, $(awk -v n=$n -v ms="$o" 'BEGIN {printf "%.0f", n * 1000 / ms}') documents/s here"
	result "17 the same : a SQL function" "$(over "$s" "$o")" "" "$o ms : $s ms"
}
