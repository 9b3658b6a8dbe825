# A database is dropped while what became of its tasks could not be written into
# their rows yet: the slots of their jobs are free again.
use strict;
use warnings;

use DocrepSession;
use DocrepTest;
use Test::More;

# as few as can be set
my $slots = 10;
my $node = new_node('here', databases => ['app'], conf => "docrep.max_jobs = $slots\ndocrep.worker_linger = 0\n");

foreach my $i (1 .. $slots + 1)
{
	$node->safe_psql('postgres', 'CREATE DATABASE gone');
	$node->safe_psql('gone', q{CREATE EXTENSION docrep; SELECT docrep.create_table('s'), docrep.create_table('t');});

	$node->safe_psql('gone', q{INSERT INTO docrep.replicator(_id, doc) VALUES ('task', '{"source": "s", "target": "t", "disabled": true}')});

	# somebody locks the row from the moment on when the task may run: what becomes of it cannot be written
	my $writer = DocrepSession->new($node, 'gone');
	my $holder = DocrepSession->new($node, 'gone');
	$writer->must(q{BEGIN; UPDATE docrep.replicator SET doc = doc || '{"disabled": false}'});
	$holder->must('BEGIN');
	$holder->send('SELECT _id FROM docrep.replicator FOR UPDATE');
	wait_for_query($node, 'gone', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'gone' AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'},
		'1');
	$writer->must('COMMIT');
	$holder->receive or die 'no lock';
	wait_for_query($node, 'gone', q{SELECT state FROM docrep.scheduler_docs WHERE doc_id = 'task'}, 'completed');

	# a keeper that fails does not come back at once
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'docrep keeper'});
	$_->close foreach $holder, $writer;
	$node->safe_psql('postgres', 'DROP DATABASE gone WITH (FORCE)');
}
pass("$slots databases and one more were dropped with a task each");
$node->safe_psql('app', q{SELECT docrep.create_table('s'), docrep.create_table('t')});
my ($ret, $out, $err) = $node->psql('app', q{SELECT docrep.replicate('s', 't') ->> 'ok'});
is($out, 'true', '... and there are slots for jobs') or diag($err);
$node->stop;
done_testing();
