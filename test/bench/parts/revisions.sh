# 20: former versions

# Updates of all documents, so many times over, with what set_revisions is given ("": nothing is kept).
update_rounds() {
	local n=$((ROWS / 4)) i times=()
	for ((i = 0; i < ROUNDS; i++)); do
		fresh_tables a
		on a >/dev/null <<-SQL
			INSERT INTO docs (_id, doc) SELECT * FROM src LIMIT $n;
			${1:+SELECT docrep.set_revisions('docs', $1);}
			UPDATE docs SET doc = doc || '{"warm": 1}';
			UPDATE docs SET doc = doc || '{"warm": 2}';
			VACUUM ANALYZE docs;
			CHECKPOINT;
		SQL
		times+=("$(ms a "UPDATE docs SET doc = doc || jsonb_build_object('new', $i)")")
	done
	printf '%s\n' "${times[@]}" | median
}

# The cost of an update with versions kept, the oldest being forgotten or not, and of reverting all.
bench_20() {
	local n=$((ROWS / 4)) off on_20 on_2 back
	off=$(update_rounds "")
	on_20=$(update_rounds 20)
	on_2=$(update_rounds 2)
	result "20 update, nothing kept : 20 versions kept" "$(over "$off" "$on_20")" "" "$off ms : $on_20 ms for $n"
	result "20 update, nothing kept : 2 versions kept, one forgotten each time" "$(over "$off" "$on_2")" "" "$off ms : $on_2 ms for $n"
	fresh_tables a
	on a >/dev/null <<-SQL
		INSERT INTO docs (_id, doc) SELECT * FROM src LIMIT $n;
		SELECT docrep.set_revisions('docs', 20);
		CREATE TABLE IF NOT EXISTS moment (at timestamptz);
		TRUNCATE moment;
		INSERT INTO moment VALUES (clock_timestamp());
		UPDATE docs SET doc = '{"bad": true}';
		CHECKPOINT;
	SQL
	back=$(ms a "SELECT docrep.revert('docs', at) FROM moment")
	echo "20 reverting $n documents: $back ms"
}
