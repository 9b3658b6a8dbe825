# Random programs of writes, deletions, resolutions, replications, partitions and
# heals over several tables, held against a small model of revision trees after
# every step (test/lib/DocrepModel.pm).  At the end all tables are the same, with
# nothing lost that was acknowledged, and the traffic has died out.
#
# A program is made of its seed alone.  DOCREP_MODEL_SEED=n plays one again and
# says each step; DOCREP_MODEL_PROGRAMS=n plays so many.
use strict;
use warnings;

use DocrepModel;
use DocrepSession;
use DocrepTest qw(:DEFAULT quote check_table);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical->allow_nonref;
my @databases = qw(one two three);
my $node = new_node('model', databases => [@databases]);
my %sessions = map { $_ => DocrepSession->new($node, $_) } @databases;
my $verbose = defined $ENV{DOCREP_MODEL_SEED};
my $programs = $verbose ? 1 : $ENV{DOCREP_MODEL_PROGRAMS} // (is_soak() ? 3000 : 36);

# The same choice in every database: the version with the greatest v, then by; none where v is 0;
# where both are odd, a body of its own.
$sessions{$_}->must(q{
	CREATE FUNCTION choose(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb IMMUTABLE
	BEGIN ATOMIC
		SELECT CASE WHEN (v.doc->>'v')::int = 0 THEN NULL
				WHEN (v.doc->>'v')::int % 2 = 1 THEN v.doc || '{"by": "both"}'
				ELSE v.doc END
		FROM unnest(versions) v ORDER BY (v.doc->>'v')::int DESC, v.doc->>'by' COLLATE "C" DESC LIMIT 1;
	END;
	-- what no other table would choose
	CREATE FUNCTION insist(tbl regclass, id text, versions docrep.version[]) RETURNS jsonb IMMUTABLE
	BEGIN ATOMIC
		SELECT jsonb_build_object('v', 0, 'by', tbl::text || length(versions::text));
	END}) foreach @databases;

# What choose() does.
sub choose
{
	my @docs = sort { $b->{v} <=> $a->{v} || $b->{by} cmp $a->{by} } map { $json->decode($_) } @_;
	my $best = $docs[0];

	return if $best->{v} == 0;
	$best = { %$best, by => 'both' } if $best->{v} % 2;
	return $json->encode($best);
}

# --- places ---

sub place
{
	my ($number, $policy, $model_policy) = @_;
	my $db = $databases[ $number % @databases ];
	my $table = "place$number";
	my $place = {
		name => "$db/$table",
		db => $db,
		table => $table,
		url => pg_url($node, $db, table => $table),
		session => $sessions{$db},
		policy => $policy,
		model => DocrepModel->new(policy => $model_policy // $policy, mark => $policy eq 'mark', prefer => \&choose),
	};
	my $resolver = { function => ", 'choose(regclass, text, docrep.version[])'", insist => ", 'insist(regclass, text, docrep.version[])'" }->{$policy} // '';
	my $sql_policy = $policy eq 'insist' ? 'function' : $policy;

	$place->{session}->must("SELECT docrep.create_table('$table')");
	$place->{session}->must("SELECT docrep.set_conflict_policy('$table', '$sql_policy'$resolver)");
	return $place;
}

sub at
{
	my ($place, $sql) = @_;
	$sql =~ s/\bTBL\b/$place->{table}/g;
	note("  $place->{name}: $sql") if $verbose;
	return $place->{session}->must($sql);
}

# A document's tree as the server has it.
sub server_tree
{
	my ($place, $id) = @_;
	my %tree;
	my $answer = at($place, "SELECT docrep.get('TBL', " . quote($id) . ", open_revs => '\"all\"', revs => true)");

	return \%tree if $answer eq '';
	foreach my $leaf (map { $_->{ok} } @{ $json->decode($answer) })
	{
		my ($start, $ids) = @{ $leaf->{_revisions} }{qw(start ids)};
		my @path = map { ($start - $_) . "-$ids->[$_]" } 0 .. $#$ids;
		my %body = map { $_ => $leaf->{$_} } grep { !/^_/ } keys %$leaf;

		foreach my $i (0 .. $#path)
		{
			$tree{ $path[$i] } //= { parent => $path[ $i + 1 ] };
		}
		$tree{ $path[0] } = { %{ $tree{ $path[0] } }, deleted => $leaf->{_deleted} ? 1 : 0, body => $json->encode(\%body) };
	}
	return \%tree;
}

# When the leaves that are seen were made.
sub modified
{
	my ($place, $id, $rev) = @_;
	my $format = q{to_char(modified AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')};

	return at($place, "SELECT $format FROM (
		SELECT _rev::text AS rev, _modified AS modified FROM TBL WHERE _id = " . quote($id) . "
		UNION SELECT rev::text, modified FROM docrep.conflicts('TBL') WHERE id = " . quote($id) . "
		) l WHERE rev = " . quote($rev) . " LIMIT 1");
}

# --- what is checked after every step ---

# Holds a document against the model, with what the policy should have made of it.
sub compare
{
	my ($place, $id, $plan) = @_;
	my $model = $place->{model};
	my $tree = $model->tree($id);
	my $server = server_tree($place, $id);
	my %made = map { $_ => $server->{$_} } grep { !$tree->{$_} } keys %$server;
	my @wrong = map { "$_ is missing" } grep { !$server->{$_} } keys %$tree;

	if ($place->{policy} eq 'insist')
	{
		# what it will say nobody knows; only that nothing is lost
		$tree->{$_} = { modified => '', deleted => 0, body => '', %{ $made{$_} } } foreach keys %made;
	}
	else
	{
		push @wrong, $model->explain($id, \%made, $plan);
	}
	my @expected = DocrepModel::leaves($tree);
	my ($winner) = @expected;
	foreach my $leaf (@expected)
	{
		next unless $server->{$leaf};
		push @wrong, "$leaf is no leaf" unless defined $server->{$leaf}{body};
		push @wrong, "$leaf says $server->{$leaf}{body}, not $tree->{$leaf}{body}"
		  if defined $server->{$leaf}{body} && $server->{$leaf}{body} ne $tree->{$leaf}{body};
	}
	my $row = at($place, q{SELECT _rev || ' ' || doc::text FROM TBL WHERE _id = } . quote($id));
	my ($rev, $doc) = split / /, $row, 2;
	if (!$winner || $tree->{$winner}{deleted})
	{
		push @wrong, "there is a row: $row" if $row ne '';
	}
	else
	{
		my @seen = sort map { (split /\|/)[0] } split /\n/,
		  at($place, q{SELECT rev FROM docrep.conflicts('TBL') WHERE id = } . quote($id));
		my @contenders = $model->contenders($id);

		push @wrong, "the row is " . ($rev // 'none') . ", not $winner" if ($rev // '') ne $winner;
		@contenders = () if @contenders < 2;
		push @wrong, "in conflict are (@seen), not (@contenders)"
		  if "@seen" ne join(' ', sort @contenders) && $place->{policy} ne 'insist';
		my $shown = $json->encode($json->decode($doc // 'null'));
		if ($place->{policy} eq 'mark' && @contenders)
		{
			push @wrong, "$shown does not name (@contenders)"
			  if join(' ', sort @{ $json->decode($doc)->{Conflicts} // [] }) ne join(' ', sort @contenders);
		}
		elsif ($shown ne $tree->{$winner}{body})
		{
			push @wrong, "the row says $shown, not $tree->{$winner}{body}";
		}
	}
	die join("\n", "$place->{name}, document $id:", @wrong) . "\n" if @wrong;
	return;
}

# A revision that a statement has made at a place.
sub made_here
{
	my ($run, $place, $id, $base, $rev, %what) = @_;
	my $model = $place->{model};

	$run->{acknowledged}{"$id $rev"} = 1;
	my @closed = $model->edit($id, $base, $rev, deleted => 0, body => '{}', modified => '', %what);
	@closed = () unless $what{ordinary} // 1;
	my $tree = $model->tree($id);
	$tree->{$rev}{modified} = $what{deleted} ? '' : modified($place, $id, $rev);
	delete $tree->{$rev}{ordinary};
	my %closed = map { $_ => 1 } @closed, @{ $what{close} // [] };
	absorb_closing($place, $id, [ sort keys %closed ]);
	compare($place, $id, undef);
	return;
}

# Tombstones that an edit or a resolution had to leave on other leaves.
sub absorb_closing
{
	my ($place, $id, $leaves) = @_;
	return unless @$leaves;
	my $tree = $place->{model}->tree($id);
	my $server = server_tree($place, $id);

	foreach my $leaf (@$leaves)
	{
		my ($closing) = grep { ($server->{$_}{parent} // '') eq $leaf && !$tree->{$_} } keys %$server;
		die "$place->{name}, document $id: $leaf was not closed\n"
		  unless $closing && $server->{$closing}{deleted} && $server->{$closing}{body} eq '{}';
		$tree->{$closing} = { %{ $server->{$closing} }, modified => '' };
	}
	return;
}

# --- steps ---

sub random { return int(rand($_[0])) }
sub one_of { return $_[ random(scalar @_) ] }
sub body { return { v => random(5), by => one_of(qw(a b c)) } }

# Writes a document on top of its winner, or a new one.
sub step_write
{
	my ($run, $place, $id) = @_;
	my $tree = $place->{model}->tree($id);
	my $winner = DocrepModel::winner($tree);
	my $body = $json->encode(body());
	my $rev;

	if ($winner && !$tree->{$winner}{deleted} && random(2))
	{
		$rev = at($place, "UPDATE TBL SET doc = " . quote($body) . " WHERE _id = " . quote($id) . " RETURNING _rev");
	}
	elsif (!$winner || $tree->{$winner}{deleted})
	{
		$rev = at($place, "INSERT INTO TBL(_id, doc) VALUES (" . quote($id) . ", " . quote($body) . ") RETURNING _rev");
	}
	else
	{
		my %doc = (%{ $json->decode($body) }, _id => $id, _rev => $winner);
		$rev = at($place, "SELECT docrep.put('TBL', " . quote($json->encode(\%doc)) . ")");
	}
	made_here($run, $place, $id, $winner, $rev, body => $body);
	return;
}

# Writes on top of a losing leaf, as users of CouchDB may.
sub step_write_loser
{
	my ($run, $place, $id) = @_;
	my $tree = $place->{model}->tree($id);
	my (undef, @losers) = DocrepModel::live($tree);
	return unless @losers;
	my $leaf = one_of(@losers);
	my $body = body();
	my $rev = at($place, "SELECT docrep.put('TBL', " . quote($json->encode({ %$body, _id => $id, _rev => $leaf })) . ")");

	delete $place->{model}{merged}{"$id $leaf"};
	made_here($run, $place, $id, $leaf, $rev, body => $json->encode($body), ordinary => 0);
	return;
}

sub step_delete
{
	my ($run, $place, $id) = @_;
	my $tree = $place->{model}->tree($id);
	my @live = DocrepModel::live($tree);
	return unless @live;
	my $leaf = one_of(@live);
	my $rev = at($place, "SELECT docrep.delete('TBL', " . quote($id) . ", " . quote($leaf) . ")");

	made_here($run, $place, $id, $leaf, $rev, deleted => 1);
	return;
}

# A user resolves: by keeping one, by a body of its own, by deleting.
sub step_resolve
{
	my ($run, $place, $id) = @_;
	my $model = $place->{model};
	my $tree = $model->tree($id);
	my ($winner, @losers) = DocrepModel::live($tree);
	return unless $model->contenders($id) > 1;
	my $how = random(3);
	my $body = $json->encode(body());
	my $keep = one_of($winner, @losers);

	if ($how == 0)
	{
		$body = $tree->{$keep}{body};
	}
	my $rev = at($place, "SELECT docrep.resolve('TBL', " . quote($id) . ", "
		  . (
			$how == 0 ? "keep => " . quote($keep)
			: $how == 1 ? "doc => " . quote($body)
			: "delete => true")
		  . ")");
	if ($rev eq $winner)
	{
		# it says already what it shall
		absorb_closing($place, $id, \@losers);
		compare($place, $id, undef);
		return;
	}
	delete $model->{merged}{"$id $_"} foreach @losers;
	made_here($run, $place, $id, $winner, $rev, $how == 2 ? (deleted => 1) : (body => $body), close => \@losers);
	return;
}

# One replication from one place to another; where it runs is a matter of chance.
# Returns how many documents were written.
sub replicate_between
{
	my ($run, $source, $target) = @_;
	my $at_source = random(3) == 0;
	my $where = $at_source ? $source : $target;
	my ($from, $to) = map { $_->{db} eq $where->{db} ? $_->{table} : $_->{url} } $source, $target;
	my $result = $json->decode(at($where, 'SELECT docrep.replicate(' . join(', ', map { quote($_) } $from, $to, '{}') . ')'));

	die "$source->{name} to $target->{name}: " . $json->encode($result) . "\n" if $result->{doc_write_failures};
	foreach my $id ($source->{model}->ids)
	{
		my $from_tree = $source->{model}->tree($id);
		my $new = 0;

		foreach my $leaf (DocrepModel::leaves($from_tree))
		{
			$new |= $target->{model}->take($id, DocrepModel::path($from_tree, $leaf));
		}
		compare($target, $id, $target->{model}->resolve($id)) if $new;
	}
	return $result->{docs_written};
}

sub play
{
	my ($seed) = @_;
	srand($seed);
	my @kinds = qw(keep identical latest latest function function mark);
	my $kind = one_of(@kinds, 'mixed', 'insist');
	my $count = 2 + random(4);
	my %run = (acknowledged => {});
	my @places = map {
		my $policy = $kind eq 'mixed' ? one_of(qw(keep identical latest function)) : $kind;
		place($_, $policy, $policy eq 'mark' ? 'identical' : $policy)
	} 0 .. $count - 1;
	my @documents = map { "doc$_" } 1 .. 1 + random(4);
	my %apart;

	note("program $seed: $count places, " . join(' ', map { $_->{policy} } @places)) if $verbose;
	foreach my $step (1 .. 25 + random(30))
	{
		my ($place, $id, $dice) = (one_of(@places), one_of(@documents), random(100));

		if ($dice < 40) { step_write(\%run, $place, $id) }
		elsif ($dice < 46) { step_write_loser(\%run, $place, $id) }
		elsif ($dice < 54) { step_delete(\%run, $place, $id) }
		elsif ($dice < 62) { step_resolve(\%run, $place, $id) }
		elsif ($dice < 66) { %apart = $dice % 2 ? () : map { $_->{name} => random(2) } @places }
		else
		{
			my $other = one_of(grep { $_ != $place } @places);
			replicate_between(\%run, $place, $other)
			  if ($apart{ $place->{name} } // 0) == ($apart{ $other->{name} } // 0);
		}
	}
	heal(\%run, $kind, @places);
	agree(\%run, $kind, @places);
	$_->{session}->must("SELECT docrep.drop_table('$_->{table}')") foreach @places;
	return;
}

# Everybody with everybody, until nothing moves.
sub heal
{
	my ($run, $kind, @places) = @_;
	my $bound = $kind eq 'insist' || $kind eq 'mixed' ? 40 : @places + 3;

	foreach my $round (1 .. $bound)
	{
		my $written = 0;

		foreach my $target (@places)
		{
			$written += replicate_between($run, $_, $target) foreach grep { $_ != $target } @places;
		}
		return if $written == 0;
	}
	die "no silence after $bound rounds\n";
}

# All places have the same trees, nothing acknowledged is missing, nothing is left to be resolved.
sub agree
{
	my ($run, $kind, @places) = @_;
	my ($first, @others) = @places;

	foreach my $id ($first->{model}->ids)
	{
		my $text = $json->encode(server_tree($first, $id));

		foreach my $place (@others)
		{
			my $there = $json->encode(server_tree($place, $id));
			die "$id differs:\n$first->{name} $text\n$place->{name} $there\n" if $text ne $there;
		}
		my $tree = $first->{model}->tree($id);
		next unless %$tree;
		my @live = DocrepModel::live($tree);
		die "$id has lost all its live revisions\n"
		  if !@live && !grep { $tree->{$_}{deleted} && $run->{acknowledged}{"$id $_"} } DocrepModel::leaves($tree);
		die "$id is still in conflict: @live\n"
		  if $kind eq 'latest' && (grep { $tree->{$_}{body} ne $tree->{ $live[0] }{body} } @live);
	}
	foreach my $key (sort keys %{ $run->{acknowledged} })
	{
		my ($id, $rev) = split / /, $key;
		foreach my $place (@places)
		{
			die "$place->{name} has lost $rev of $id\n" unless server_tree($place, $id)->{$rev};
		}
	}
	foreach my $place (@places)
	{
		my $wrong = at($place, q{SELECT string_agg(c::text, ', ') FROM docrep.check('TBL') c});
		die "$place->{name}: $wrong\n" if $wrong ne '';
	}
	return;
}

my $base = $ENV{DOCREP_MODEL_SEED} // (is_soak() ? time : 1);
my $failed = 0;
foreach my $seed ($base .. $base + $programs - 1)
{
	next if eval { play($seed); 1 };
	my $why = $@;
	fail("program $seed");
	diag($why);
	diag("play it again with DOCREP_MODEL_SEED=$seed");
	last if ++$failed >= 3;
	# what it left behind is in the way of the next one
	foreach my $number (0 .. 4)
	{
		$sessions{ $databases[ $number % @databases ] }
		  ->query("SELECT docrep.drop_table('place$number') WHERE to_regclass('place$number') IS NOT NULL");
	}
}
is($failed, 0, "$programs random programs, from $base on");

done_testing();
