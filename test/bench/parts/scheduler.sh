# 15: many tasks of which few have something to do

JOBS=${BENCH_JOBS:-10000}

# Our processes of server c, by pid.
our_processes() {
	on c -c "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'docrep %'"
}

# Memory of our processes together, in MB: their shares of what they share with others included.
our_memory() {
	our_processes | while read -r pid; do
		awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup" 2>/dev/null || true
	done | awk '{s += $1} END {printf "%.0f\n", s / 1024}'
}

# CPU seconds of our processes that there are now
our_cpu() {
	our_processes | while read -r pid; do
		cpu_of "$pid" 2>/dev/null || true
	done | awk '{s += $1} END {print s + 0}'
}

jobs_server_start() {
	as_user "$PG_BINDIR/initdb" -D "$BASE/c" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
	as_user mkdir "$BASE/sock_c"
	{
		STAGE=$BASE/stage docrep_conf
		cat <<-CONF
			fsync = on
			unix_socket_directories = '$BASE/sock_c'
			listen_addresses = ''
			shared_buffers = 128MB
			max_locks_per_transaction = 1000
			autovacuum = off
			max_worker_processes = 20
			docrep.max_workers = 8
			docrep.max_jobs = $((JOBS + 100))
		CONF
	} | as_user tee -a "$BASE/c/postgresql.conf" >/dev/null
	as_user "$PG_BINDIR/pg_ctl" -D "$BASE/c" -l "$BASE/c.log" -w start >/dev/null
	on c -d postgres -c "CREATE DATABASE bench" >/dev/null
	on c -c "CREATE EXTENSION docrep" >/dev/null
}

# Until as many jobs as there should be are parked; prints nothing.
all_parked() {
	local n
	until [ "$(on c -c "SELECT count(*) FROM docrep.active_tasks WHERE state = 'parked'")" = "$1" ]; do
		sleep 0.05
	done
	# and their processes have ended
	until [ "$(on c -c "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'")" = 0 ]; do
		sleep 0.2
	done
}

# Parked jobs between local tables: memory, idle CPU, wake-ups, a restart of the server.
bench_15() {
	local side cpu t0 t1
	jobs_server_start
	side=$(awk -v n="$JOBS" 'BEGIN {s = int(sqrt(n)); while (s * s < n) s++; print s}')
	on c >/dev/null <<-SQL
		SELECT count(docrep.create_table('s' || i)) FROM generate_series(1, $side) i;
		SELECT count(docrep.create_table('t' || i)) FROM generate_series(1, $side) i;
		SELECT docrep.create_table('one'), docrep.create_table('other');
	SQL
	t0=$(date +%s.%N)
	on c >/dev/null <<-SQL
		INSERT INTO docrep.replicator(_id, doc)
		SELECT 's' || i || '-t' || j, jsonb_build_object('source', 's' || i, 'target', 't' || j, 'continuous', true)
		FROM generate_series(1, $side) i, generate_series(1, $side) j LIMIT $((JOBS - 1));
		INSERT INTO docrep.replicator(_id, doc) VALUES ('one', '{"source": "one", "target": "other", "continuous": true}');
	SQL
	t1=$(date +%s.%N)
	all_parked "$JOBS"
	echo "15 $JOBS tasks: written in $(over "$(awk -v a="$t0" -v b="$t1" 'BEGIN {print b - a}')" 1) s, all parked after $(awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s (of which $(on c -c "SHOW docrep.park_after") and more they wait before)"
	result "15 $JOBS parked jobs: memory of all our processes, MB" "$(our_memory)" "< 250"
	cpu=$(our_cpu)
	sleep 20
	result "15 ... CPU of one core while idle, percent" "$(awk -v a="$cpu" -v b="$(our_cpu)" 'BEGIN {printf "%.2f", (b - a) / 20 * 100}')" "< 2"
	wake_latency 100 1 "15 ... commit to commit when one of them wakes, ms" 10
	wake_latency 10 6 "15 ... the same, when no process is left" ""

	as_user "$PG_BINDIR/pg_ctl" -D "$BASE/c" -w -m fast stop >/dev/null
	t0=$(date +%s.%N)
	as_user "$PG_BINDIR/pg_ctl" -D "$BASE/c" -l "$BASE/c.log" -w start >/dev/null
	on c -c "INSERT INTO one(_id, doc) VALUES ('after', '{}')"
	until [ "$(on c -c "SELECT count(*) FROM other WHERE _id = 'after'")" = 1 ]; do sleep 0.02; done
	echo "15 ... restart: a write arrives $(awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s after the start"
	until [ "$(on c -c "SELECT count(*) FROM docrep.active_tasks WHERE state IN ('parked', 'idle')")" = "$JOBS" ]; do sleep 0.1; done
	echo "15 ... restart: all have looked at their sources after $(awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s"
	as_user "$PG_BINDIR/pg_ctl" -D "$BASE/c" -w -m fast stop >/dev/null
}

# Single writes to a source whose job is parked: from the source's commit to the target's.
wake_latency() { # times, seconds between them, what, aim
	local i
	on c -c "ALTER SYSTEM SET docrep.park_after = 0" -c "ALTER SYSTEM SET track_commit_timestamp = on" >/dev/null
	if [ "$(on c -c "SHOW track_commit_timestamp")" = off ]; then
		as_user "$PG_BINDIR/pg_ctl" -D "$BASE/c" -l "$BASE/c.log" -w -m fast restart >/dev/null
		until [ "$(on c -c "SELECT count(*) FROM docrep.active_tasks WHERE state = 'parked'")" = "$JOBS" ]; do sleep 0.5; done
	fi
	on c -c "DELETE FROM one"
	for ((i = 0; i < $1; i++)); do
		on c -c "INSERT INTO one(_id, doc) VALUES ('$2-$i', '{}')"
		sleep "$2"
	done
	until [ "$(on c -c "SELECT count(*) FROM other WHERE _id LIKE '$2-%'")" = "$1" ]; do sleep 0.1; done
	result "$3" "$(on c -c "SELECT round((extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY pg_xact_commit_timestamp(t.xmin) - pg_xact_commit_timestamp(s.xmin))) * 1000)::numeric, 1)
		|| ' (most ' || round((extract(epoch FROM max(pg_xact_commit_timestamp(t.xmin) - pg_xact_commit_timestamp(s.xmin))) * 1000)::numeric, 1) || ')'
		FROM one s JOIN other t USING (_id) WHERE _id LIKE '$2-%'")" "$4"
}
