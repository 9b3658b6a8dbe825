# RavenDB's scenarios of external replication, by their names, with tasks between two
# servers.  What is asked of each in depth is tested elsewhere (051, 052, 055, 066).
use strict;
use warnings;

use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use Test::More;

my $near = new_node('near', databases => ['one'], conf => "docrep.worker_linger = 0\ndocrep.park_after = 100\ndocrep.max_retry_interval = 2\n");
my $far = new_node('far', databases => [ 'one', 'two' ]);
my $json = JSON::PP->new->canonical;

sub here { return $near->safe_psql('one', join ";\n", @_) }

# A table at a place that notes when its rows came.
sub make_target
{
	my ($db, $table) = @_;
	$far->safe_psql($db, "SELECT docrep.create_table('$table'); ALTER TABLE $table ADD arrived timestamptz DEFAULT clock_timestamp()");
	return pg_url($far, $db, table => $table);
}

sub task
{
	my ($id, $source, $target, %more) = @_;
	here('INSERT INTO docrep.replicator (_id, doc) VALUES (' . quote($id) . ', '
		  . quote($json->encode({ source => $source, target => $target, continuous => JSON::PP::true, %more })) . ')');
	return;
}

sub change
{
	my ($id, %members) = @_;
	here('UPDATE docrep.replicator SET doc = doc || ' . quote($json->encode(\%members)) . ' WHERE _id = ' . quote($id));
	return;
}

sub write_doc { my ($table, $id) = @_; return here("INSERT INTO $table(_id, doc) VALUES ('$id', '{}')") }

sub arrives
{
	my ($db, $table, $id, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_for_query($far, $db, "SELECT count(*) FROM $table WHERE _id = '$id'", '1', 60), $name);
}

sub state_of { my ($id) = @_; return here('SELECT state FROM docrep.scheduler_docs WHERE doc_id = ' . quote($id)) }

subtest 'reaches two targets' => sub {
	here(q{SELECT docrep.create_table('copied')});
	task('first', 'copied', make_target('one', 'copied'));
	task('second', 'copied', make_target('two', 'copied'));
	write_doc('copied', 'a');
	arrives('one', 'copied', 'a', 'the first');
	arrives('two', 'copied', 'a', 'the second');
};

subtest 'idle target costs nothing' => sub {
	ok(wait_for_query($near, 'one', q{SELECT string_agg(d.state || ' ' || (pid IS NULL), ', '), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'docrep worker')
		FROM docrep.scheduler_docs d JOIN docrep.scheduler_jobs j USING (doc_id) WHERE d.doc_id IN ('first', 'second')}, 'running true, running true|0'),
		'both run, without a process here');
	# a server takes a moment to see that a client has gone
	ok(wait_for_query($far, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'docrep%' AND backend_type = 'client backend'}, '0'),
		'or a connection there');
};

subtest 'delayed arrival' => sub {
	here(q{SELECT docrep.create_table('late')});
	task('late', 'late', make_target('one', 'late'), delay => '1500 ms');
	write_doc('late', 'a');
	arrives('one', 'late', 'a', 'it arrives');
	is($far->safe_psql('one', q{SELECT arrived - _modified >= interval '1500 ms' FROM late}), 't', 'and not before its time');
};

subtest 'delay edited to zero speeds up' => sub {
	change('late', delay => '1 day');
	write_doc('late', 'b');
	wait_for_query($near, 'one', q{SELECT info->'delayed'->>'waiting' FROM docrep.scheduler_docs WHERE doc_id = 'late'}, '1', 60);
	is($far->safe_psql('one', q{SELECT count(*) FROM late WHERE _id = 'b'}), '0', 'it waits');
	change('late', delay => '0');
	arrives('one', 'late', 'b', 'and does no more');
};

subtest 'wrong database blocks, correction delivers' => sub {
	here(q{SELECT docrep.create_table('strayed')});
	my $url = make_target('one', 'strayed');
	(my $wrong = $url) =~ s{/one#}{/nowhere#};
	task('strayed', 'strayed', $wrong);
	write_doc('strayed', 'a');
	# and again soon, when it says so no more
	like(wait_until(sub { here(q{SELECT info->>'error' FROM docrep.scheduler_docs WHERE doc_id = 'strayed' AND state IN ('crashing', 'error', 'failed')}) }, 60, 'the task to fail'),
		qr/nowhere/, 'it says what is wrong');
	change('strayed', target => $url);
	arrives('one', 'strayed', 'a', 'the right one is reached');
	is(state_of('strayed'), 'running', 'and it goes on');
};

subtest 'works again after a restart of either side' => sub {
	$far->restart;
	write_doc('copied', 'b');
	arrives('one', 'copied', 'b', 'of the target');
	$near->restart;
	write_doc('copied', 'c');
	arrives('two', 'copied', 'c', 'of the source');
};

subtest 'fails over to the second URL' => sub {
	my $dead = PostgreSQL::Test::Cluster::get_free_port();
	my ($user, $host, $port) = (scalar getpwuid($>), $far->host, $far->port);
	$host =~ s{/}{%2F}g;
	make_target('two', 'spare');
	here(q{SELECT docrep.create_table('spare')},
		"CREATE SERVER pair FOREIGN DATA WRAPPER docrep OPTIONS (url 'postgresql://127.0.0.1:$dead/two, postgresql://$host:$port/two')",
		"CREATE USER MAPPING FOR CURRENT_USER SERVER pair OPTIONS (user '$user')");
	task('spare', 'spare', 'pair:spare');
	write_doc('spare', 'a');
	arrives('two', 'spare', 'a', 'the first one is not there');
};

done_testing();
