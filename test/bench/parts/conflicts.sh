# 18, 19: conflicts

# Every document of "docs" with one more revision, as a replication brings it, in table "incoming",
# a thousand in a row: a child of the current revision (plain), or of its parent (conflict).
make_incoming() {
	local ids="jsonb_build_array(md5('$1' || _id), rev->0, rev->1)" start=3
	if [ "$1" = conflict ]; then
		ids="jsonb_build_array(md5('$1' || _id), rev->1)" start=2
	fi
	on a >/dev/null <<-SQL
		DROP TABLE IF EXISTS incoming;
		CREATE TABLE incoming AS
		SELECT n / 1000 AS batch, jsonb_agg(doc || jsonb_build_object('_id', _id, 'new', n, '_rev', '$start-' || md5('$1' || _id),
				'_revisions', jsonb_build_object('start', $start, 'ids', $ids))) AS docs
		FROM (SELECT _id, doc, row_number() OVER (ORDER BY _id) AS n,
				docrep.get('docs', _id, revs => true) #> '{_revisions,ids}' AS rev FROM docs) d
		GROUP BY 1;
		CHECKPOINT;
	SQL
}

# "docs" with two revisions of everything, and a policy.
two_revisions() {
	fresh_tables a
	on a >/dev/null <<-SQL
		INSERT INTO docs (_id, doc) SELECT * FROM src LIMIT $1;
		UPDATE docs SET doc = doc || '{"second": true}';
		SELECT docrep.set_conflict_policy('docs', '${2%%:*}'${3:-});
		VACUUM ANALYZE docs;
	SQL
}

# An incoming conflict, left or resolved at once, against an incoming plain update.
bench_18() {
	local n=$((ROWS / 4)) policy plain conflict p c resolver
	local incoming="SELECT count(*) FROM incoming, docrep.bulk_docs('docs', docs, new_edits => false)"
	on a >/dev/null <<-SQL
		CREATE OR REPLACE FUNCTION newest(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb IMMUTABLE
		BEGIN ATOMIC
			SELECT v.doc FROM unnest(versions) v ORDER BY (v.doc->>'n')::int DESC, v.doc::text DESC LIMIT 1;
		END;
	SQL
	plain=()
	for ((i = 0; i < ROUNDS; i++)); do
		two_revisions "$n" keep
		make_incoming plain
		plain+=("$(ms a "$incoming")")
	done
	p=$(printf '%s\n' "${plain[@]}" | median)
	for policy in keep latest function; do
		conflict=() resolver=
		[ $policy != function ] || resolver=", 'newest(regclass,text,docrep.version[])'"
		for ((i = 0; i < ROUNDS; i++)); do
			two_revisions "$n" $policy "$resolver"
			make_incoming conflict
			conflict+=("$(ms a "$incoming")")
		done
		c=$(printf '%s\n' "${conflict[@]}" | median)
		result "18 incoming plain update : incoming conflict, policy $policy" "$(over "$p" "$c")" "" "$p ms : $c ms for $n"
	done
}

# A large table of which one document in a hundred is in conflict.
bench_19() {
	local n=${BENCH_CONFLICT_ROWS:-1000000} count one rate
	fresh_tables a
	on a >/dev/null <<-SQL
		INSERT INTO docs (_id, doc) SELECT 'c-' || g, jsonb_build_object('n', g) FROM generate_series(1, $n) g;
		SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('_id', 'c-' || g, '_rev', '1-' || md5('x' || g), 'n', -g)) AS docs
				FROM generate_series(100, $n, 100) g GROUP BY g / 100000) b,
			docrep.bulk_docs('docs', b.docs, new_edits => false);
		VACUUM ANALYZE docs;
	SQL
	count=$(ms a "SELECT count(*) FROM docrep.conflicts('docs')" "SELECT docrep.conflict_count('docs')")
	one=$(ms a "SELECT id FROM docrep.conflicts('docs') WHERE id = 'c-100'" "SELECT id FROM docrep.conflicts('docs') LIMIT 1")
	echo "19 $n documents, $((n / 100)) in conflict: counted in $count ms, listed for one in $one ms"
	# by hand, and not by housekeeping in the background
	on a -c "SET docrep.housekeeping = off" -c "SELECT docrep.set_conflict_policy('docs', 'latest')" >/dev/null
	rate=$(ms a "DO \$\$ DECLARE r record; last text; BEGIN LOOP
			SELECT * INTO r FROM docrep.resolve_conflicts('docs', 1000, last);
			COMMIT; EXIT WHEN r.last IS NULL; last := r.last; END LOOP; END \$\$")
	echo "19 resolving them in batches of 1,000: $rate ms"
}
