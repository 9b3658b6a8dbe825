# The same task on two servers, to the same target: the one that "mentor" names
# runs it, the other takes over when it is gone, and never do both write.
use strict;
use warnings;

use DocrepCouch;
use DocrepTest qw(:DEFAULT quote is_same_contents contents);
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

my $lease_ms = 2000;
my $conf = "docrep.lease_time = '${lease_ms}ms'\n";
my %server;
my $frozen;

# Whatever happens, no process stays frozen.
END { kill 'CONT', $frozen if $frozen }

# The connections of a server's workers say whose they are.
sub as_node
{
	my ($name, $start) = @_;
	local $ENV{PGOPTIONS} = "-c test.node=$name";
	return $start->();
}

foreach my $name (qw(a b))
{
	$server{$name} = as_node($name, sub { new_node($name, databases => ['one'], conf => "docrep.node_name = '$name'\n$conf") });
}
my $third = new_node('third', databases => [ 'src', 'dst' ]);

$third->safe_psql('src', q{SELECT docrep.create_table('docs')});

# The target notes who has written, and whose the lease was at that moment.  It is not
# fast, so that a process can be frozen in the middle of its work.
$third->safe_psql('dst', q{
	SELECT docrep.create_table('docs');
	CREATE TABLE public.writes(n serial, at timestamptz DEFAULT clock_timestamp(), node text, holder text, term int);
	CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN
		PERFORM pg_sleep(0.005);
		INSERT INTO public.writes(node, holder, term)
		SELECT current_setting('test.node'), l.doc->>'node', (l.doc->>'term')::int
		FROM (SELECT 1) one LEFT JOIN docrep.local_docs l ON l.id ~ '^docrep-lease-[0-9a-f]+$';
		RETURN NULL;
	END $$;
	CREATE TRIGGER note AFTER INSERT ON docs 		FOR EACH STATEMENT EXECUTE FUNCTION public.note()});

# Each reaches the target in its own way: what the task is called is the same.
my %timeout = (a => 7, b => 8);
my $written = 0;

# Makes the task on a server.
sub begin
{
	my ($name) = @_;
	my %url = map { $_ => pg_url($third, $_, table => 'docs', params => "connect_timeout=$timeout{$name}") } qw(src dst);
	$server{$name}->safe_psql('one', qq{INSERT INTO docrep.replicator(_id, doc) VALUES ('copy',
		'{"source": "$url{src}", "target": "$url{dst}", "continuous": true, "mentor": "a", "worker_batch_size": 20}')});
}

# Writes more documents at the source.
sub more
{
	my ($count) = @_;
	my $from = $written + 1;
	$written += $count;
	$third->safe_psql('src', qq{INSERT INTO docs(_id, doc)
		SELECT 'doc' || i, jsonb_build_object('n', i) FROM generate_series($from, $written) i});
}

sub arrived
{
	my ($name) = @_;
	my $start = time;
	wait_for_query($third, 'dst', 'SELECT count(*) FROM docs', $written);
	note(sprintf '%s: after %.1f s', $name, time - $start);
	pass("$name: everything is at the target");
}

sub holder { return $third->safe_psql('dst', q{SELECT doc->>'node' FROM docrep.local_docs WHERE id ~ '^docrep-lease-[0-9a-f]+$' AND doc ? 'token'}) }

sub held_by
{
	my ($name, $what) = @_;
	wait_until(sub { holder() eq $name }, undef, "the lease to be ${name}'s");
	pass($what);
}

# The process that runs the replication on a server.
sub worker_of
{
	my ($name, $task) = @_;
	my $only = $task ? "AND doc_id = '$task'" : '';
	return wait_until(sub { $server{$name}->safe_psql('one', qq{SELECT pid FROM docrep.active_tasks WHERE pid IS NOT NULL $only}) }, undef, "a worker of $name");
}

# Stops the process that runs the replication on a server, in the middle of what it does.
sub freeze
{
	my ($name, $task) = @_;
	return wait_until(
		sub {
			my $pid = worker_of($name, $task);
			kill 'STOP', $frozen = $pid or return 0;
			# elsewhere than in a wait for others it may hold a lock that the server needs
			return 1 if $server{$name}->safe_psql('one', "SELECT wait_event_type IN ('Extension', 'Client') FROM pg_stat_activity WHERE pid = $pid") eq 't';
			kill 'CONT', $pid;
			$frozen = undef;
			return 0;
		}, undef, "a process of $name to freeze");
}

# --- the stand-by alone, then the preferred server ---

begin('b');
more(100);
held_by('b', 'nobody else is there: b takes it');
arrived('b alone');
begin('a');
held_by('a', 'a is there now: b has given it up');
more(100);
arrived('a runs it');
is($third->safe_psql('dst', q{SELECT DISTINCT node FROM public.writes ORDER BY 1}), "a\nb", 'both have written');

# --- the preferred server is killed ---

kill 'KILL', worker_of('a');
$server{a}->stop('immediate', fail_ok => 1);
more(100);
held_by('b', 'a was killed: b takes over');
arrived('b after that');
as_node('a', sub { $server{a}->start });
held_by('a', 'a is back, and has it again');
more(50);
arrived('a after that');

# --- the preferred server's process is frozen in the middle of its work ---

foreach my $round (1 .. 3)
{
	my $log = -s $server{a}->logfile;
	more(2000);
	wait_for_query($third, 'dst', "SELECT count(*) > $written - 1900 FROM docs", 't');
	freeze('a');
	held_by('b', "round $round: a was frozen: b takes over");
	more(100);
	arrived("round $round: b");
	more(2000);
	wait_for_query($third, 'dst', "SELECT count(*) > $written - 1900 FROM docs", 't');
	kill 'CONT', $frozen;
	$frozen = undef;
	arrived("round $round: while a awakes");
	held_by('a', "round $round: a has it again");
	ok(log_has($server{a}, qr/ran out before it was renewed|taken this replication over|was taken by another node/, $log),
		"round $round: the frozen process has noticed");
}

# --- what it stands on: compare and set, and the fence ---

my $uuid = $third->safe_psql('src', q{SELECT docrep.create_table('fenced'); SELECT tbl FROM docrep.peer_open('fenced', false, 99)}) =~ s/.*\n//sr;
my $swap = sub { return $third->safe_psql('src', "SELECT docrep.peer_swap_local('$uuid', 'l', $_[0], $_[1])") };
is($swap->(q{'{"token": "x"}'}, q{'{"token": "a"}'}), 'f', 'nothing is there, something was expected');
is($swap->('NULL', q{'{"token": "a"}'}), 't', 'nothing is there, as expected');
is($swap->('NULL', q{'{"token": "b"}'}), 'f', 'something is there, nothing was expected');
is($swap->(q{'{"token": "b"}'}, q{'{"token": "c"}'}), 'f', 'another is there');
is($swap->(q{'{"token": "a", "_id": "_local/l", "_rev": "0-9"}'}, q{'{"token": "b"}'}), 't', 'it is there; _id and _rev do not count');
is($third->safe_psql('src', q{SELECT docrep.get_local('fenced', 'l')->>'token'}), 'b', '... and was replaced');
is((sqlstate($third, 'src', "SELECT docrep.peer_fence('$uuid', 'l', 'b'); SELECT docrep.peer_put_local('$uuid', 'x', '{}')"))[0], '', 'a fence lets the holder pass');
is((sqlstate($third, 'src', "SELECT docrep.peer_fence('$uuid', 'l', 'a'); SELECT docrep.peer_put_local('$uuid', 'x', '{}')"))[0], 'DR503', '... and nobody else');

# Who writes under the lease keeps it to the end of the transaction; a taker does not wait for that.
my $writer = $third->background_psql('src', on_error_stop => 1);
$writer->query_safe("BEGIN; SELECT docrep.peer_fence('$uuid', 'l', 'b'); SELECT docrep.peer_put_local('$uuid', 'x', '{}');");
is($swap->(q{'{"token": "b"}'}, q{'{"token": "c"}'}), 'f', 'the lease is not taken in the middle of a write');
$writer->query_safe('COMMIT');
$writer->quit;
is($swap->(q{'{"token": "b"}'}, q{'{"token": "c"}'}), 't', '... but after it');

# --- a CouchDB target, which cannot compare and set ---

my $couch = DocrepCouch->new;
$couch->create('dst');

foreach my $name (qw(a b))
{
	my $url = $couch->url('dst');
	$server{$name}->safe_psql('one', qq{SELECT docrep.create_table('docs');
		INSERT INTO docrep.replicator(_id, doc) VALUES ('to_couch', '{"source": "docs", "continuous": true, "mentor": "a",
			"target": {"url": "$url", "headers": {"X-Node": "$name"}}, "connection_timeout": 3000, "retries_per_request": 2}')});
}

# The sources are replicas of each other.
sub more_here
{
	my ($from, $to) = @_;
	foreach my $name (qw(a b))
	{
		$server{$name}->safe_psql('one', qq{SELECT docrep.bulk_docs('docs', (SELECT jsonb_agg(jsonb_build_object('_id', 'doc' || i, '_rev', '1-abc', 'n', i)) FROM generate_series($from, $to) i), false)});
	}
}

sub couch_holder
{
	my ($lease) = grep { /docrep-lease-[0-9a-f]+\z/ } keys %{ $couch->local('dst') };
	return '' unless $lease;
	my $doc = $couch->local('dst')->{$lease};
	my $text = ref $doc ? ($doc->{body} // '') : $doc;
	return $text =~ /"token"/ && $text !~ /"claim"/ && $text =~ /"node":"([^"]*)"/ ? $1 : '';
}

more_here(1, 100);
wait_until(sub { couch_holder() eq 'a' }, undef, 'a to have the lease at the CouchDB');
wait_until(sub { keys %{ $couch->contents('dst') } == 100 }, undef, 'the documents to be there');
pass('a CouchDB target: a has the lease, and everything is there');
freeze('a', 'to_couch');
more_here(101, 200);
wait_until(sub { couch_holder() eq 'b' }, undef, 'b to have the lease at the CouchDB');
wait_until(sub { keys %{ $couch->contents('dst') } == 200 }, undef, 'the rest to be there');
pass('a is frozen: b takes over');
kill 'CONT', $frozen;
$frozen = undef;
wait_until(sub { couch_holder() eq 'a' }, undef, 'a to have it again');
more_here(201, 300);
wait_until(sub { keys %{ $couch->contents('dst') } == 300 }, undef, 'the last to be there');

# The lease is whose document of it was the last there, but for claims, which are none yet.
my ($has_it, %wrote, @strangers) = ('');
foreach my $r (grep { $_->{status} < 300 } @{ $couch->log })
{
	if ($r->{method} eq 'PUT' && $r->{target} =~ m{^/dst/_local/docrep-lease-})
	{
		my $lease = decode_json($r->{body});
		$has_it = defined $lease->{token} ? $lease->{node} : '' unless $lease->{claim};
	}
	elsif ($r->{method} eq 'POST' && $r->{target} =~ m{^/dst/_bulk_docs})
	{
		my $node = $r->{headers}{'x-node'} // '?';
		$wrote{$node}++;
		push @strangers, "$node, not $has_it" if $node ne $has_it;
	}
}
is(join(' ', sort keys %wrote), 'a b', 'both have written');
is_deeply(\@strangers, [], '... each while it had the lease');

# --- who has written when ---

is($third->safe_psql('dst', q{SELECT count(*) FROM public.writes WHERE node IS DISTINCT FROM holder}), 0,
	'nobody but the holder of the lease has written');
is($third->safe_psql('dst', q{SELECT term FROM public.writes GROUP BY term HAVING count(DISTINCT node) > 1}), '',
	'in no term have two nodes written');
is($third->safe_psql('dst', q{SELECT count(*) FROM (SELECT term < lag(term) OVER (ORDER BY n) AS back FROM public.writes) t WHERE back}), 0,
	'terms do not go back');
is_same_contents(contents($third, 'src', 'docs'), contents($third, 'dst', 'docs'), 'source and target are the same');
$_->stop foreach values %server, $third;
done_testing();
