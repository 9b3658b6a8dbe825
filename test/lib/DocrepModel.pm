# A small model of document tables in conflict, for 063_conflict_model.pl: revision
# trees as plain hashes, CouchDB's choice of a winner, and what a table's policy
# makes of a conflict.  It shares nothing with the extension: revisions are text,
# and what the server has made of its own accord must be explained by explain().
#
# A tree is { rev => { parent, deleted, body, modified } }: parent undef at a root,
# body as canonical JSON text, modified as text that sorts by time.
package DocrepModel;

use strict;
use warnings;

# An empty table with a policy: keep, identical, latest, function (prefer: how the
# resolver chooses: a sub that gets the versions and returns a body); mark: what is in conflict
# shows as that, and an edit of the winner ends it.
sub new
{
	my ($class, %opts) = @_;
	return bless { policy => $opts{policy}, mark => $opts{mark}, prefer => $opts{prefer}, trees => {}, merged => {} }, $class;
}

sub tree { return $_[0]{trees}{ $_[1] } //= {} }
sub ids { return sort keys %{ $_[0]{trees} } }

# CouchDB's order of revisions: by number, then by the rest.
sub compare
{
	my ($left, $right) = @_;
	my ($ln, $lt) = split /-/, $left, 2;
	my ($rn, $rt) = split /-/, $right, 2;

	return $ln <=> $rn || $lt cmp $rt;
}

# Leaves, the winner first: live before deleted, then the highest revision.
sub leaves
{
	my ($tree) = @_;
	my %parents = map { $_->{parent} // '' => 1 } values %$tree;

	return sort { $tree->{$a}{deleted} <=> $tree->{$b}{deleted} || compare($b, $a) }
	  grep { !$parents{$_} } keys %$tree;
}

sub winner { return (leaves($_[0]))[0] }
sub live { my ($tree) = @_; return grep { !$tree->{$_}{deleted} } leaves($tree) }

# Live leaves that are a conflict as this table sees it: without those that say the same as the winner.
sub contenders
{
	my ($self, $id) = @_;
	return grep { !$self->{merged}{"$id $_"} } live($self->tree($id));
}

# A local edit: a child of base (undef: a first revision).  Equal versions go with it.
# Returns the leaves that the server must have closed.
sub edit
{
	my ($self, $id, $base, $rev, %node) = @_;
	my $tree = $self->tree($id);
	my $was_winner = !defined $base || $base eq (winner($tree) // '');
	my $ends = $self->{mark} && $self->contenders($id) > 1;
	my @close = $was_winner ? grep { $_ ne ($base // '') && ($ends || $self->{merged}{"$id $_"}) } live($tree) : ();

	$tree->{$rev} = { parent => $base, deleted => 0, %node };
	delete $self->{merged}{"$id $_"} foreach @close;
	$self->remerge($id, { map { $_ => 1 } @close });
	return @close;
}

# Which live leaves say the same as the winner.
sub remerge
{
	my ($self, $id, $without) = @_;
	my $tree = $self->tree($id);
	my ($winner, @losers) = grep { !$without->{$_} } live($tree);

	return if $self->{policy} eq 'keep' || !defined $winner;
	delete $self->{merged}{"$id $_"} foreach $winner, @losers;
	foreach my $loser (@losers)
	{
		$self->{merged}{"$id $loser"} = 1 if $tree->{$loser}{body} eq $tree->{$winner}{body};
	}
	return;
}

# A path as another table has it, newest first: [rev, node] pairs.  True if anything was new.
sub take
{
	my ($self, $id, @path) = @_;
	my $tree = $self->tree($id);
	my $new = 0;

	# as it was before the first that is new
	$self->{before}{$id} //= [ winner($tree), grep { $self->{merged}{"$id $_"} } live($tree) ]
	  if %$tree && grep { !$tree->{ $_->[0] } } @path;
	foreach my $step (@path)
	{
		my ($rev, $node) = @$step;
		next if $tree->{$rev};
		$tree->{$rev} = {%$node};
		$new = 1;
	}
	return $new;
}

# The path from a revision to its root.
sub path
{
	my ($tree, $rev) = @_;
	my @path;

	for (; defined $rev && $tree->{$rev}; $rev = $tree->{$rev}{parent})
	{
		push @path, [ $rev, $tree->{$rev} ];
	}
	return @path;
}

# Versions that said the same as the winner and go with it, as what came in goes on from it.
sub outlived
{
	my ($self, $id) = @_;
	my $tree = $self->tree($id);
	my ($winner, @merged) = @{ delete $self->{before}{$id} // [] };
	my %leaf = map { $_ => 1 } leaves($tree);

	return if !defined $winner || $leaf{$winner};
	return grep { $leaf{$_} } @merged;
}

# What the policy makes of a document after something has come in: undef, or
# { on => the winner, body => what it shall say, close => [leaves], modified }; on is undef
# if only leaves are closed.
sub resolve
{
	my ($self, $id) = @_;
	my $tree = $self->tree($id);
	my $policy = $self->{policy};
	my @outlived = $self->outlived($id);
	my %outlived = map { $_ => 1 } @outlived;
	my $plan = @outlived ? { close => \@outlived } : undef;

	delete $self->{merged}{"$id $_"} foreach @outlived;
	return if $policy eq 'keep';
	$self->remerge($id, \%outlived);
	my ($winner, @losers) = grep { !$outlived{$_} } live($tree);
	return $plan unless @losers;
	my @versions = ($winner, @losers);
	my @contenders = grep { !$self->{merged}{"$id $_"} } @versions;
	return $plan if @contenders < 2 || $policy eq 'identical';
	my ($chosen) = sort { $tree->{$b}{modified} cmp $tree->{$a}{modified} || compare($b, $a) } @versions;
	my $body = $tree->{$chosen}{body};
	my $modified = $tree->{$chosen}{modified};
	if ($policy eq 'function')
	{
		$body = $self->{prefer}->(map { $tree->{$_}{body} } @versions);
		return $plan unless defined $body;
		# the time of the first version that says so; a body of its own is as new as the newest
		my ($said) = grep { $tree->{$_}{body} eq $body } @versions;
		$modified = defined $said ? $tree->{$said}{modified} : undef;
	}
	return { on => $winner, body => $body, close => [ @losers, @outlived ], modified => $modified };
}

# Takes in what the server has made beyond what was sent to it: a list of complaints.
# made: { rev => node }, plan: what resolve() said, or undef.
sub explain
{
	my ($self, $id, $made, $plan) = @_;
	my $tree = $self->tree($id);
	my @wrong;

	foreach my $rev (sort { compare($a, $b) } keys %$made)
	{
		my $node = $made->{$rev};
		my $parent = $node->{parent} // 'none';

		if (!$plan)
		{
			push @wrong, "$rev was made without need";
		}
		elsif ($node->{deleted})
		{
			push @wrong, "$rev closes $parent, which is no losing leaf"
			  unless grep { $_ eq $parent } @{ $plan->{close} };
			push @wrong, "$rev closes with a body: $node->{body}" if $node->{body} ne '{}';
		}
		elsif (!defined $plan->{on})
		{
			push @wrong, "$rev was made without need";
		}
		else
		{
			push @wrong, "$rev is live, but no child of $plan->{on}" if $parent ne $plan->{on};
			push @wrong, "$rev says $node->{body}, not $plan->{body}" if $node->{body} ne $plan->{body};
			$node->{modified} = $plan->{modified} // $self->newest($id);
		}
		$tree->{$rev} = $node;
	}
	if ($plan && defined $plan->{on})
	{
		my @left = $self->contenders($id);
		my $body = @left ? $tree->{ $left[0] }{body} : 'deleted';
		push @wrong, "leaves @left are left" if @left > 1;
		push @wrong, "the winner says $body, not $plan->{body}" if $body ne $plan->{body};
	}
	return @wrong;
}

# The newest modification among a document's live leaves.
sub newest
{
	my ($self, $id) = @_;
	my $tree = $self->tree($id);
	my ($newest) = reverse sort map { $tree->{$_}{modified} // '' } grep { !$tree->{$_}{deleted} } keys %$tree;

	return $newest;
}

1;
