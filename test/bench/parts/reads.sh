# 5: reading

bench_5() {
	local bare docs
	full_tables a
	bare=() docs=()
	for ((i = 0; i < ROUNDS; i++)); do
		bare+=("$(ms a 'SET enable_seqscan = off' 'SET enable_sort = off' 'SET enable_bitmapscan = off' "COPY (SELECT * FROM bare ORDER BY id) TO '/dev/null'")")
		docs+=("$(ms a "COPY (SELECT * FROM docrep.changes('docs')) TO '/dev/null'")")
	done
	local b d
	b=$(printf '%s\n' "${bare[@]}" | median)
	d=$(printf '%s\n' "${docs[@]}" | median)
	result "5 changes read of $ROWS rows : index-order scan, bare table" "$(over "$b" "$d")" ">= 0.5" "$d ms : $b ms"
	docs=()
	for ((i = 0; i < ROUNDS; i++)); do
		docs+=("$(ms a "COPY (SELECT * FROM docrep.changes('docs', include_docs => true)) TO '/dev/null'")")
	done
	d=$(printf '%s\n' "${docs[@]}" | median)
	result "5 the same with include_docs" "$(over "$b" "$d")" "" "$d ms : $b ms"
}
