# A peer that hangs in the middle of the protocol holds nobody up: a proxy stops
# forwarding at one point or another, and cancel, pg_terminate_backend,
# time-outs, shutdown, DROP DATABASE and DROP EXTENSION take effect all the same.
# What happens soon must happen within 30 s here, as machines are busy, and none of
# the times that would end the wait otherwise is as short as that.
use strict;
use warnings;

use DocrepProxy;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote replicate contents is_same_contents);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $soon = 30;
my $documents = 4000;
my $true = JSON::PP::true;
my $json = JSON::PP->new->canonical;

my $near = new_node('near', databases => ['one'], conf => "log_min_messages = log\ndocrep.worker_linger = 0");
my $far = new_node('far', databases => ['far'], tcp => 1);
my $proxy = DocrepProxy->new('127.0.0.1', $far->port);

$far->safe_psql('far', qq{
	SELECT docrep.create_table('source');
	INSERT INTO source(_id, doc) SELECT 'document ' || n, jsonb_build_object('n', n, 'text', repeat(md5(n::text), 4))
		FROM generate_series(1, $documents) n});

# A database of its own for each case, as some of them drop it.
my $case = 0;
sub fresh_database
{
	my ($way) = @_;
	my $db = 'case' . ++$case;
	$near->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE one");
	$near->safe_psql($db, q{SELECT docrep.create_table('here')});
	$near->safe_psql($db, qq{
		INSERT INTO here(_id, doc) SELECT 'document ' || n, jsonb_build_object('n', n, 'text', repeat(md5(n::text), 4))
			FROM generate_series(1, $documents) n})
	  if $way eq 'push';
	return $db;
}

# The far server by way of the proxy.
sub by_proxy
{
	my ($table) = @_;
	my $url = pg_url($far, 'far', tcp => 1, table => $table);
	my $port = $proxy->port;
	$url =~ s/127\.0\.0\.1:\d+/127.0.0.1:$port/;
	return $url;
}

# The replication of a case: its source and target.
sub endpoints
{
	my ($way) = @_;
	return $way eq 'pull' ? (by_proxy('source'), 'here') : ('here', by_proxy("pushed$case"));
}

sub statement
{
	my ($way, %options) = @_;
	return 'SELECT docrep.replicate('
	  . join(', ', map { quote($_) } endpoints($way), $json->encode({ create_target => $true, connection_timeout => 300_000, %options })) . ')';
}

sub workers
{
	return $near->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker'});
}

# A test that something is over soon: that it returns, and that no worker is left.
sub ends_soon
{
	my ($name, $sub) = @_;
	my $begin = time;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answered = $sub->();
	my $gone = eval { wait_until(sub { workers() eq '0' }, $soon, 'the worker to go') };
	my $took = time - $begin;
	ok($answered && $gone && $took < $soon, sprintf '%s (%.1f s)', $name, $took);
	return;
}

# ---------- how much is there to forward? ----------

# Also what goes right when nothing hangs.
my %total;
foreach my $way ('pull', 'push')
{
	my $db = fresh_database($way);
	my $before = $proxy->bytes;
	my $result = $json->decode($near->safe_psql($db, statement($way)));
	is($result->{docs_written}, $documents, "$way by way of the proxy");
	$total{$way} = $proxy->bytes - $before;
	cmp_ok($total{$way}, '>', 100_000, "$way: $total{$way} bytes");
}

# ---------- one-shots ----------

# What ends one, done from another session; true if the caller was told.
my %ends = (
	'cancel' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql($db, statement($way, cancel => $true));
		return $caller->receive($soon) && $caller->{sqlstate} eq 'DR500';
	},
	'termination of the worker' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql($db, 'SELECT pg_terminate_backend(pid) FROM docrep.active_tasks');
		return $caller->receive($soon) && $caller->{sqlstate} eq '57P01';
	},
	'termination of the caller' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql($db, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'});
		return $caller->receive($soon) && $caller->{sqlstate} eq 'lost';
	},
	'cancelling the caller' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql($db, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'});
		return $caller->receive($soon) && $caller->{sqlstate} eq '57014';
	},
	'DROP EXTENSION' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql($db, 'DROP EXTENSION docrep CASCADE');
		return $caller->receive($soon) && $caller->{sqlstate} eq 'DR500';
	},
	'DROP DATABASE WITH (FORCE)' => sub {
		my ($way, $db, $caller) = @_;
		$near->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
		return $caller->receive($soon) && $caller->{sqlstate} eq 'lost';
	},
	'shutdown' => sub {
		my ($way, $db, $caller) = @_;
		$near->stop('fast');
		$near->start;
		# or it hears from the worker, if that one ends first
		return $caller->receive($soon) && $caller->{sqlstate} =~ /^(lost|57P01)$/;
	},
);

# Each end comes at other points of the protocol, from the first byte on.
my @ends = sort keys %ends;
my @points = (0, 1, 200, 800, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95);
my $turn = 0;
foreach my $way ('pull', 'push')
{
	foreach my $point (@points, is_soak() ? map { rand } 1 .. 60 : ())
	{
		my $bytes = int($point > 0 && $point < 1 ? $point * $total{$way} : $point);
		my $end = $ends[ $turn++ % @ends ];
		my $db = fresh_database($way);

		$proxy->stall_after($bytes);
		my $caller = DocrepSession->new($near, $db, app => 'caller');
		$caller->send(statement($way));
		wait_until(sub { $proxy->has_stalled }, undef, "the proxy to hang after $bytes bytes");
		ends_soon("$way hangs after $bytes bytes: $end", sub { $ends{$end}->($way, $db, $caller) });
		$proxy->flow;
		next unless $end =~ /caller|cancel|worker/;

		# it begins anew, and nothing is missing in the end
		$near->safe_psql($db, statement($way));
		is_same_contents(
			$way eq 'pull' ? contents($far, 'far', 'source') : contents($near, $db, 'here'),
			$way eq 'pull' ? contents($near, $db, 'here') : contents($far, 'far', "pushed$case"),
			'... and afterwards it goes on')
		  if $way eq 'push' || $turn % 3 == 0;
	}
}

# ---------- time-outs ----------

{
	my $db = fresh_database('pull');
	$proxy->stall_after(int 0.5 * $total{pull});
	my $caller = DocrepSession->new($near, $db, app => 'caller');
	$caller->must("SET statement_timeout = '1s'");
	ends_soon('statement_timeout', sub {
		$caller->query(statement('pull'));
		return $caller->{sqlstate} eq '57014';
	});

	$proxy->stall_after(0);
	ends_soon('connection_timeout', sub {
		my ($state) = sqlstate($near, $db, statement('pull', connection_timeout => 1000));
		return $state eq 'DR503';
	});
	foreach my $point (0.3, 0.5, 0.9)
	{
		$db = fresh_database('pull');
		$proxy->stall_after(int $point * $total{pull});
		ends_soon("request_timeout, at $point", sub {
			my ($state) = sqlstate($near, $db, statement('pull', request_timeout => 1000));
			return $state eq 'DR503';
		});
	}
	$proxy->flow;
}

# ---------- a target that the replication makes ----------

# The job is known by the name that the table had when it was asked for, as well
# when the table is there.
{
	my $db = fresh_database('both');
	foreach my $hangs (0, 1)
	{
		my @call = ($near, $db, by_proxy('source'), "made$hangs", create_target => $true, continuous => $true);
		my $first = replicate(@call);
		wait_for_query($near, $db, q{SELECT state IN ('idle', 'parked') FROM docrep.active_tasks}, 't', 60);
		is(replicate(@call)->{_local_id}, $first->{_local_id}, 'asked for again, it is the same job');
		is($near->safe_psql($db, 'SELECT count(*) FROM docrep.active_tasks'), '1', 'and the only one');
		$proxy->stall_now if $hangs;
		ends_soon('and is cancelled by the same document' . ($hangs ? ' while the source hangs' : ''),
			sub { replicate(@call, cancel => $true)->{ok} });
	}
	$proxy->flow;
}

# ---------- continuous ones ----------

# Starts one of each way in a database, waits until both are idle, and lets the
# far side fall silent: while they are idle, or with something on its way.
sub hang_continuous
{
	my ($db, $busy) = @_;
	$near->safe_psql($db, statement($_, continuous => $true)) foreach 'pull', 'push';
	wait_for_query($near, $db, q{SELECT count(*) FROM docrep.active_tasks WHERE state IN ('idle', 'parked')}, '2', 60);
	$proxy->stall_now;
	return unless $busy;
	$near->safe_psql($db, q{INSERT INTO here(_id, doc) SELECT 'more ' || n, '{}' FROM generate_series(1, 5000) n});
	$far->safe_psql('far', qq{INSERT INTO source(_id, doc) SELECT 'more $case ' || n, '{}' FROM generate_series(1, 50) n});
	wait_until(sub { $proxy->has_stalled }, undef, 'the proxy to hang');
	return;
}

my %continuous_ends = (
	'cancel' => sub {
		my ($db) = @_;
		$near->safe_psql($db, statement($_, continuous => $true, cancel => $true)) foreach 'pull', 'push';
		return 1;
	},
	'DROP DATABASE' => sub {
		my ($db) = @_;
		$near->safe_psql('postgres', "DROP DATABASE $db");
		return 1;
	},
	'DROP EXTENSION' => sub {
		my ($db) = @_;
		$near->safe_psql($db, 'DROP EXTENSION docrep CASCADE');
		return 1;
	},
	'shutdown' => sub {
		$near->stop('fast');
		$near->start;
		return 1;
	},
);
foreach my $busy (0, 1)
{
	foreach my $end (sort keys %continuous_ends)
	{
		my $db = fresh_database('both');
		hang_continuous($db, $busy);
		ends_soon('continuous, ' . ($busy ? 'busy' : 'idle') . ", both ways hang: $end",
			sub { $continuous_ends{$end}->($db) });
		$proxy->flow;
	}
}

# A terminated worker of a continuous job is replaced; the new one goes on.
{
	my $db = fresh_database('both');
	hang_continuous($db, 1);
	my $begin = time;
	$near->safe_psql($db, 'SELECT pg_terminate_backend(pid) FROM docrep.active_tasks');
	wait_for_query($near, $db, q{SELECT count(*) FROM docrep.active_tasks WHERE error_count > 0}, '2', $soon);
	cmp_ok(time - $begin, '<', $soon, 'terminated workers end though the peer hangs');
	$proxy->flow;
	wait_for_query($near, $db, q{SELECT count(*) FROM docrep.active_tasks WHERE state IN ('idle', 'parked') AND changes_pending = 0}, '2', 60);
	wait_until(sub { $far->safe_psql('far', "SELECT count(*) FROM pushed$case WHERE _id LIKE 'more %'") >= 5000 },
		undef, 'what was on its way');
	pass('... and others take their places');

	# without polling, which is done once a minute: what is committed on either side is there at once
	$far->safe_psql('far', q{INSERT INTO source(_id, doc) VALUES ('last', '{}')});
	wait_for_query($near, $db, q{SELECT count(*) FROM here WHERE _id = 'last'}, '1', $soon);
	wait_for_query($far, 'far', qq{SELECT count(*) FROM pushed$case WHERE _id = 'last'}, '1', $soon);
	pass('... and changes travel at once again');
	$continuous_ends{cancel}->($db);
}

# a process ends shortly after its job
ok(wait_until(sub { workers() eq '0' }, undef, 'the workers to go'), 'no worker is left');
foreach my $node ($near, $far)
{
	$node->stop('fast');
	ok(!log_has($node, qr/PANIC|TRAP|terminated by signal|could not find block/), 'nothing died in ' . $node->name);
}
done_testing();
