# 11 to 14: replication with a CouchDB-compatible server, over HTTP on loopback

HTTP_ROWS=${BENCH_HTTP_ROWS:-50000}

js() {
	(cd "$BASE" && as_user env NODE_PATH="$(node_modules)" node "$ROOT/test/bench/js/$1.js" "${@:2}")
}

node_modules() {
	"$ROOT/test/interop/node_modules.sh"
}

http_start() {
	[ -z "${HTTP:-}" ] || return 0
	on a -c "COPY (SELECT doc || jsonb_build_object('_id', id) FROM src ORDER BY id LIMIT $HTTP_ROWS) TO STDOUT" |
		sed 's/\\\\/\\/g' | as_user tee "$BASE/docs.jsonl" >/dev/null
	as_user mkdir -p "$BASE/couch"
	js server "$BASE/couch" >"$BASE/couch.port" 2>"$BASE/couch.err" &
	until [ -s "$BASE/couch.port" ]; do sleep 0.1; done
	HTTP=http://127.0.0.1:$(cat "$BASE/couch.port")
	HTTP_PID=$(pgrep -f "js/server.js $BASE/couch" | tail -1)
	js load "$HTTP" source "$BASE/docs.jsonl" >/dev/null
}

# CPU seconds of a process so far
cpu_of() {
	awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); print ($12 + $13) / hz}' "/proc/$1/stat"
}

# CPU seconds of server b and of all processes it ever had
cpu_of_server() {
	local pid child total
	pid=$(head -1 "$BASE/b/postmaster.pid")
	total=$(awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / hz}' "/proc/$pid/stat")
	for child in $(pgrep -P "$pid"); do
		total=$(awk -v a="$total" -v b="$(cpu_of "$child" 2>/dev/null || echo 0)" 'BEGIN {print a + b}')
	done
	echo "$total"
}

# Pull: PouchDB's own replication against ours; how busy the server was; our CPU time.
bench_11() {
	local own=() ours=() busy=() cpu=() i start peer db before
	http_start
	for ((i = 0; i < ROUNDS; i++)); do
		own+=("$(js pull "$HTTP/source" "$BASE/pulled$i" 1000 | cut -d' ' -f1)")
		on b >/dev/null -c "DROP TABLE IF EXISTS pulled" -c "SELECT docrep.create_table('pulled')" -c CHECKPOINT
		peer=$(cpu_of "$HTTP_PID")
		before=$(cpu_of_server)
		ours+=("$(ms b "SELECT docrep.replicate('$HTTP/source', 'pulled')")")
		busy+=("$(awk -v a="$peer" -v b="$(cpu_of "$HTTP_PID")" -v ms="${ours[i]}" 'BEGIN {print (b - a) * 1000 / ms}')")
		cpu+=("$(awk -v a="$before" -v b="$(cpu_of_server)" -v n="$HTTP_ROWS" 'BEGIN {print (b - a) * 100000 / n}')")
	done
	[ "$(on b -c "SELECT count(*) FROM pulled")" = "$HTTP_ROWS" ]
	local p o
	p=$(printf '%s\n' "${own[@]}" | median)
	o=$(printf '%s\n' "${ours[@]}" | median)
	result "11 pull of $HTTP_ROWS documents : PouchDB's own into LevelDB" "$(over "$p" "$o")" ">= 3" "$o ms : $p ms"
	result "11 share of that time in which the peer's process was busy" "$(printf '%s\n' "${busy[@]}" | median)" "> 0.9" ""
	result "11 CPU seconds of ours per 100,000 documents" "$(printf '%s\n' "${cpu[@]}" | median)" "" ""
}

# Push against plain _bulk_docs of the same documents by a bare client.
bench_12() {
	local bare=() ours=() i
	http_start
	on a >/dev/null -c "DROP TABLE IF EXISTS pushed" -c "SELECT docrep.create_table('pushed')" \
		-c "INSERT INTO pushed (_id, doc) SELECT id, doc FROM src ORDER BY id LIMIT $HTTP_ROWS" -c "VACUUM ANALYZE pushed"
	for ((i = 0; i < ROUNDS; i++)); do
		bare+=("$(js load "$HTTP" "bare$i" "$BASE/docs.jsonl")")
		ours+=("$(ms a "SELECT docrep.replicate('pushed', '$HTTP/pushed$i', '{\"create_target\": true}')")")
	done
	local p o
	p=$(printf '%s\n' "${bare[@]}" | median)
	o=$(printf '%s\n' "${ours[@]}" | median)
	result "12 push of $HTTP_ROWS documents : plain _bulk_docs of them" "$(over "$p" "$o")" ">= 0.9" "$o ms : $p ms"
}

# Latency of a continuous two-way replication, each way.
bench_13() {
	local n=200 way
	http_start
	on b >/dev/null -c "DROP TABLE IF EXISTS talk" -c "SELECT docrep.create_table('talk')" \
		-c "ALTER TABLE talk ADD COLUMN arrived float8 DEFAULT extract(epoch FROM clock_timestamp()) * 1000"
	on b >/dev/null -c "SELECT docrep.replicate('talk', '$HTTP/talk', '{\"continuous\": true, \"create_target\": true}')" \
		-c "SELECT docrep.replicate('$HTTP/talk', 'talk', '{\"continuous\": true}')"
	js latency there "$HTTP" talk $n >"$BASE/out.lat" &
	local reader=$!
	until grep -q ready "$BASE/out.lat" 2>/dev/null; do sleep 0.1; done
	for ((i = 1; i <= n; i++)); do
		on b -c "INSERT INTO talk (_id, doc) VALUES ('l$i', jsonb_build_object('at', extract(epoch FROM clock_timestamp()) * 1000))"
		sleep 0.05
	done
	wait $reader
	js latency here "$HTTP" talk $n
	wait_for b "SELECT count(*) = $n FROM talk WHERE _id LIKE 'w%'"
	on b -c "SELECT arrived - (doc ->> 'at')::float8 FROM talk WHERE _id LIKE 'w%'" >"$BASE/in.lat"
	on b >/dev/null -c "SELECT docrep.replicate('talk', '$HTTP/talk', '{\"continuous\": true, \"create_target\": true, \"cancel\": true}')" \
		-c "SELECT docrep.replicate('$HTTP/talk', 'talk', '{\"continuous\": true, \"cancel\": true}')"
	for way in out in; do
		grep -v ready "$BASE/$way.lat" | sort -n >"$BASE/$way.sorted"
		result "13 latency, continuous two-way over HTTP, $way, ms: p50" "$(sed -n $((n / 2))p "$BASE/$way.sorted")" "<= 20" \
			"p99 $(sed -n $((n * 99 / 100))p "$BASE/$way.sorted") (aim <= 60), of $(wc -l <"$BASE/$way.sorted")"
	done
}

# Small attachments: PouchDB's own pull against ours.
bench_14() {
	local n=10000 size=10000 own=() ours=() i
	http_start
	js attach "$HTTP" attached $n $size
	for ((i = 0; i < ROUNDS; i++)); do
		own+=("$(js pull "$HTTP/attached" "$BASE/attached$i" 100 | cut -d' ' -f1)")
		on b >/dev/null -c "DROP TABLE IF EXISTS attached" -c "SELECT docrep.create_table('attached')" -c CHECKPOINT
		ours+=("$(ms b "SELECT docrep.replicate('$HTTP/attached', 'attached')")")
	done
	[ "$(on b -c "SELECT count(*) FROM attached WHERE _attachments IS NOT NULL")" = "$n" ]
	local p o
	p=$(printf '%s\n' "${own[@]}" | median)
	o=$(printf '%s\n' "${ours[@]}" | median)
	result "14 pull of $n attachments of $size bytes : PouchDB's own" "$(over "$p" "$o")" "" "$o ms : $p ms"
}
