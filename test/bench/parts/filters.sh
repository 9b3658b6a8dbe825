# 16: filters

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
