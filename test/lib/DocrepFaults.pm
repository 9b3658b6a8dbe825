# What the tests of faulty CouchDB peers share: a sample of documents on one side,
# a replication to the other, a fault, and what must hold before and after.
#
#   my $lab = DocrepFaults->new($node, 'one', $couch);
#   $lab->meets('reset in mid-body', way => 'pull', fault => { match => ..., reset_at => 10 },
#       state => 'DR503', message => qr/reset/);
#
# A case has a database and a table of its own.  "pull" is from the scripted
# CouchDB into the table, "push" is the other way.
package DocrepFaults;

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use DocrepCouch qw(docrep_contents);
use DocrepCouch::Store qw(json_quote);
use DocrepSession;
use DocrepTest qw(:DEFAULT quote);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);

my $json = JSON::PP->new->canonical->latin1;
my $cases = 0;

# Time-outs that tests can wait for, where a fault keeps the client waiting, and those for
# servers that do answer, however slowly: a machine may stall, and opening is not tried again.
our %quick = (connection_timeout => 1000, request_timeout => 3000, retries_per_request => 1);
our %patient = (connection_timeout => 30_000, request_timeout => undef);

sub new
{
	my ($class, $node, $dbname, $couch) = @_;
	return bless { node => $node, dbname => $dbname, couch => $couch, session => DocrepSession->new($node, $dbname, app => 'caller') }, $class;
}

# A revision whose identifier is told by a name.
sub rev { return "$_[0]-" . md5_hex($_[1]) }

# Documents of every kind, as DocrepCouch's put() takes them.
sub sample
{
	my $plain = $_[0] // 30;
	my @conflict = (rev(2, 'c2'), rev(1, 'c1'));

	return (
		(map { { id => sprintf('plain%03d', $_), revs => [ rev(2, "b$_"), rev(1, "a$_") ], body => "\"n\":$_,\"text\":\"" . 'x' x ($_ * 7) . '"' } } 1 .. $plain),
		{ id => 'conflict', revs => [ rev(3, 'c3'), @conflict ], body => '"branch":1' },
		{ id => 'conflict', revs => [ rev(3, 'd3'), @conflict ], body => '"branch":2' },
		{ id => 'conflict', revs => [ rev(2, 'e2'), rev(1, 'c1') ], body => '"branch":3' },
		{ id => 'dead', revs => [ rev(2, 'dead'), rev(1, 'alive') ], deleted => 1, body => '"why":"because"' },
		{ id => "odd/id +%2F&?#\xC3\xA9 \xF0\x9F\x98\x80", revs => [ rev(1, 'odd') ], body => '"odd":true' },
		{ id => '_design/app', revs => [ rev(1, 'ddoc') ], body => '"views":{"all":{"map":"function (doc) { emit(doc._id); }"}}' },
		{ id => 'attached', revs => [ rev(1, 'att') ], body => '"a":1', atts => { 'one.txt' => { content => 'one ' x 80_000 }, 'two/ \'x\'.bin' => { type => 'application/octet-stream', content => join '', map { chr } 0 .. 255 } } },
	);
}

# Of sample(): how many leaves.
sub leaves { return ($_[0] // 30) + 7 }

# A new case: a source with the sample (or other documents), and no target yet.
sub fresh
{
	my ($self, $way, @docs) = @_;
	my $case = { way => $way, db => 'case' . ++$cases, table => "here$cases" };

	@docs = sample() unless @docs;
	$case->{leaves} = scalar @docs;
	if ($way eq 'pull')
	{
		$self->{couch}->put($case->{db}, @docs);
	}
	else
	{
		$self->{session}->must("SELECT docrep.create_table('$case->{table}')");
		my $texts = '[' . join(',', map { as_json($_) } @docs) . ']';
		my $failed = $self->{session}->must("SELECT * FROM docrep.bulk_docs('$case->{table}', \$docs\$$texts\$docs\$, false)");
		die "the sample was not taken: $failed" if $failed ne '';
	}
	return $case;
}

# A document as bulk_docs takes it.
sub as_json
{
	my ($doc) = @_;
	my ($start) = $doc->{revs}[0] =~ /^(\d+)/;
	my $atts = $doc->{atts} // {};
	my $text = '{"_id":' . json_quote($doc->{id}) . ",\"_rev\":\"$doc->{revs}[0]\",\"_revisions\":{\"start\":$start,\"ids\":["
	  . join(',', map { json_quote(s/^\d+-//r) } @{ $doc->{revs} }) . ']}'
	  . ($doc->{deleted} ? ',"_deleted":true' : '') . ($doc->{body} ne '' ? ",$doc->{body}" : '');
	$text .= ',"_attachments":{' . join(',', map {
		json_quote($_) . ':{"content_type":"' . ($atts->{$_}{type} // 'text/plain') . '","data":"' . encode_base64($atts->{$_}{content}, '') . '"}'
	} sort keys %$atts) . '}' if %$atts;
	return "$text}";
}

# Source and target of a case.
sub endpoints
{
	my ($self, $case) = @_;
	my @ends = ($case->{url} // $self->{couch}->url($case->{db}), $case->{table});
	return $case->{way} eq 'pull' ? @ends : reverse @ends;
}

# The statement that runs a case.
sub statement
{
	my ($self, $case, %options) = @_;
	my $all = { %quick, create_target => JSON::PP::true, %options };
	delete @$all{ grep { !defined $all->{$_} } keys %$all };
	return 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $self->endpoints($case), $json->encode($all)) . ')';
}

# Runs a case: {state, message, result, seconds}; the state is '' if all was well.  Patient,
# unless there is a fault that keeps it waiting.
sub run
{
	my ($self, $case, %options) = @_;
	%options = (%patient, %options) unless $self->{couch}->keeps_waiting;
	my $begin = time;
	my $text = $self->{session}->query($self->statement($case, %options), 180);
	my $state = $self->{session}{sqlstate};
	my %run = (state => $state eq '00000' ? '' : $state, message => $self->{session}{output}, seconds => time - $begin);

	$run{result} = $json->decode($text) if defined $text;
	if ($state eq 'timeout')
	{
		my @log = @{ $self->{couch}->log };
		diag("no answer; the last requests:");
		diag(sprintf '  %.1f s ago %s %s: %s', time - $_->{at}, @$_{qw(method target status)}) foreach @log > 8 ? @log[ -8 .. -1 ] : @log;
	}
	return \%run;
}

# Leaves that are at the target.
sub present
{
	my ($self, $case) = @_;
	if ($case->{way} eq 'push')
	{
		# What a run that has failed had sent already may still be on its way into
		# the server, which reads from all of its connections between two of our questions.
		my ($count, $same) = (-1, 0);
		while ($same < 5)
		{
			my $now = map { @{ $json->decode($_) } } values %{ $self->{couch}->contents($case->{db}) };
			$same = $now == $count ? $same + 1 : 0;
			$count = $now;
		}
		return $count;
	}
	return 0 if $self->{session}->must("SELECT to_regclass('$case->{table}') IS NULL") eq 't';
	return $self->{session}->must("SELECT coalesce(sum(jsonb_array_length(changes)), 0) FROM docrep.changes('$case->{table}', style => 'all_docs')");
}

# A test that both sides are the same; except: ids that are missing at the target.
sub is_equal
{
	my ($self, $case, $name, %opts) = @_;
	my $there = $self->{couch}->contents($case->{db});
	my $here = docrep_contents($self->{node}, $self->{dbname}, $case->{table});

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($source, $target) = $case->{way} eq 'pull' ? ($there, $here) : ($here, $there);
	if ($opts{except})
	{
		delete @$_{ @{ $opts{except} } } foreach $source, $target;
	}
	my @differ = grep { ($source->{$_} // '') ne ($target->{$_} // '') } sort keys %{ { %$source, %$target } };
	my $ok = ok(!@differ && %$source, $name . ' (' . keys(%$source) . ' documents)');
	foreach my $id (@differ > 3 ? @differ[ 0 .. 2 ] : @differ)
	{
		diag("$id\n  source " . substr($source->{$id} // 'missing', 0, 500) . "\n  target " . substr($target->{$id} // 'missing', 0, 500));
	}
	return $ok;
}

# A fault is written for "/db" and "db"; this is the one of a case.
sub for_case
{
	my ($case, $fault) = @_;
	my %fault = (%$fault, match => $fault->{match} =~ s{/db\b}{/$case->{db}}gr);

	foreach my $command (grep { $fault{$_} } qw(command after))
	{
		$fault{$command} = [ map { !ref && $_ eq 'db' ? $case->{db} : $_ } @{ $fault{$command} } ];
	}
	return %fault;
}

# Runs a case, and adds a document to what there is at its source.
sub prepare
{
	my ($self, $case) = @_;
	my $run = $self->run($case);

	die "the first run failed: $run->{message}" if $run->{state} ne '';
	$case->{base} = $case->{leaves}++;
	$case->{way} eq 'pull'
	  ? $self->{couch}->put($case->{db}, { id => 'later', revs => [ rev(1, 'later') ], body => '' })
	  : $self->{session}->must("SELECT docrep.put('$case->{table}', '{\"_id\": \"later\"}')");
	return;
}

# A replication that meets a fault, and another one without.
#   way, docs        of the case
#   prepared         it has run before, and there is one more document now
#   fault            one, or an array of several
#   options          of the replication document
#   state            of the first run: '' (default), a SQLSTATE, or a pattern of it
#   message          pattern of the message
#   within           seconds that the first run may take
#   any_count        rows came repeatedly: docs_written is not looked at
#   hits             how often the fault must have been met; default: at least once
sub meets
{
	my ($self, $name, %opts) = @_;
	my ($couch, $case) = ($self->{couch}, $opts{case} // $self->fresh($opts{way}, @{ $opts{docs} // [] }));
	$self->prepare($case) if $opts{prepared};
	my @wanted = ref $opts{fault} eq 'ARRAY' ? @{ $opts{fault} } : $opts{fault};
	my @faults = map { $couch->fault(for_case($case, $_)) } @wanted;
	my $run = $self->run($case, %{ $opts{options} // {} });

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$name = "$opts{way}: $name" if $opts{way};
	my $title = "$name: " . ($opts{state} ? "ends with $opts{state}" : 'overcome');
	my $ok = ref $opts{state} ? like($run->{state}, $opts{state}, $title) : is($run->{state}, $opts{state} // '', $title);
	diag($run->{message}) unless $ok;
	like($run->{message}, $opts{message}, '... which says so') if $opts{message};
	cmp_ok($run->{seconds}, '<', $opts{within}, '... in time') if $opts{within};
	foreach my $fault (@faults)
	{
		my $hits = $couch->hits($fault);
		defined $opts{hits} ? is($hits, $opts{hits}, '... after so many attempts') : $hits > 0 || fail("... the fault was met: $faults[0]");
	}
	$couch->heal;
	return $self->completes($case, $name, $run, %opts);
}

# The run after that of a fault: all is there, and nothing was written twice.
sub completes
{
	my ($self, $case, $name, $run, %opts) = @_;
	my $present = $run->{state} eq '' ? $case->{base} // 0 : $self->present($case);
	my $again = $run->{state} eq '' ? $run : $self->run($case, %{ $opts{options} // {} }, %patient);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if ($again->{state} ne '')
	{
		fail('... and afterwards it goes on');
		diag($again->{message});
		return 0;
	}
	my $expected = $case->{leaves} - $present;
	return $self->is_equal($case, '... and both sides are equal') if $opts{any_count};
	return is(($again->{result}{docs_written} // 0) . '/' . ($again->{result}{doc_write_failures} // 0),
		$expected . '/0', "... $expected of $case->{leaves} were written, once")
	  & $self->is_equal($case, '... and both sides are equal');
}

# Largest memory that any docrep worker has had, in kB, while a sub runs.
sub memory_of_workers
{
	my ($self, $sub) = @_;
	my $port = $self->{node}->port;
	pipe my $out, my $in;
	pipe my $looks, my $looking;
	my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($self->{node}->data_dir . '/postmaster.pid'))[0];
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		my ($most, $go, $last) = (0, 1, 0);
		local $SIG{TERM} = sub { $go = 0 };
		close $out;
		# from here on it may be told to end
		close $looking;
		# once more when all is over: the worker waits a while for another job
		until ($last)
		{
			$last = !$go;
			foreach my $file (glob '/proc/[0-9]*/status')
			{
				open my $fh, '<', $file or next;
				my $status = do { local $/; readline $fh } // next;
				next unless $status =~ /^PPid:\s+$postmaster$/m;
				my $no = (split m{/}, $file)[2];
				open my $cmd, '<', "/proc/$no/cmdline" or next;
				next unless ((readline $cmd) // '') =~ /docrep worker/;
				# what it has of its own, not the server's shared memory
				my ($anon) = $status =~ /^RssAnon:\s+(\d+)/m;
				$most = $anon if ($anon // 0) > $most;
			}
			select undef, undef, undef, 0.02 if $go;
		}
		syswrite $in, $most;
		POSIX::_exit(0);
	}
	close $_ foreach $in, $looking;
	readline $looks;
	my $result = eval { $sub->() };
	my $error = $@;
	kill 'TERM', $pid;
	my $most = do { local $/; readline $out };
	waitpid $pid, 0;
	die $error if $error;
	return ($most, $result);
}

1;
