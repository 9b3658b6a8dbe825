# docs/reference.md agrees with the catalogue: signatures, columns of views,
# settings, SQLSTATEs and privileges.  And every object of the extension has a
# comment.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('reference');
my $page = slurp_file('docs/reference.md');

# The rows of a query, each a list of columns.
sub rows
{
	my ($query) = @_;
	return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $query);
}

# ---- functions ----------------------------------------------------------------

my ($list) = $page =~ /executable by PUBLIC: begin -->(.*?)<!-- executable by PUBLIC: end/s;
my %open = map { $_ => 1 } ($list // '') =~ /`(\w+)`/g;
my (%found, @unnamed, @wrong);

# Those of types, triggers and peers are named; those for users have a heading
# with their arguments.
foreach my $row (
	rows(q{SELECT p.proname, replace(pg_get_function_arguments(p.oid), '|', ' '),
			has_function_privilege('public', p.oid, 'EXECUTE')
		FROM pg_proc p WHERE p.pronamespace = 'docrep'::regnamespace}))
{
	my ($name, $arguments, $public) = @$row;
	$arguments = join ', ', grep { !/^OUT / } split /, /, $arguments;
	$arguments =~ s/(NULL|'[^']*')::[\w\[\]. ]+/$1/g;

	push @unnamed, $name if $page !~ /\b$name\b/;
	push @wrong, "$name is" . ($public eq 't' ? '' : ' not') . ' executable by PUBLIC'
	  if ($public eq 't') != exists $open{$name};
	$found{$name} = 1;
	next if $name =~ /^(peer_\w+|rev_\w+|revtree_\w+|track_change|\w+_unsettled|settle_\w+|
		refuse_truncate|batch_rows|on_\w+|active_tasks|job_rows|checkpoint_time|
		table_stays|tombstones_after|remove_tombstones|row_matches|found_doc|sort_rank|settings_noted|hold_noted|task_check|task_note)$/x;
	next if index($page, "\n#### `$name($arguments)`\n") >= 0;

	# what takes a revision as text takes one as docrep.rev, too, which has no default
	my $as_text = $arguments =~ s/\brev docrep\.rev\b/rev text/r =~ s/ DEFAULT NULL//gr;
	push @wrong, "no heading `$name($arguments)`"
	  if $as_text eq $arguments || index($page =~ s/ DEFAULT NULL//gr, "\n#### `$name($as_text)`\n") < 0;
}
cmp_ok(scalar keys %found, '>', 50, 'functions were looked at');
is_deeply(\@unnamed, [], 'every function is named');
is_deeply(\@wrong, [], 'signatures are as documented, and so is who may execute what');
is_deeply([ grep { !$found{$_} } sort keys %open ], [], 'every function in the list exists');
is_deeply([ grep { !$found{$_} } $page =~ /^#### `(\w+)\(/mg ], [],
	'every function that has a heading exists');

# ---- tables and views ---------------------------------------------------------

my @readable;
@unnamed = ();
foreach my $row (
	rows(q{SELECT c.relname, c.relkind, has_table_privilege('public', c.oid, 'SELECT'),
			has_table_privilege('public', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'),
			(SELECT string_agg(attname, ' ') FROM pg_attribute
			 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
		FROM pg_class c WHERE c.relnamespace = 'docrep'::regnamespace AND c.relkind IN ('r', 'v')
		ORDER BY 1}))
{
	my ($name, $kind, $select, $write, $columns) = @$row;

	push @readable, $name if $select eq 't';
	is($write, 'f', "$name cannot be written by PUBLIC");
	push @unnamed, $name if $page !~ /`docrep\.$name`/;
	next unless $kind eq 'v';
	my ($section) = $page =~ /^(\*\*`docrep\.$name`\*\*.*?)(?=^\*\*`docrep\.|^## )/ms;
	foreach my $column (split / /, $columns)
	{
		push @unnamed, "$name.$column" if ($section // '') !~ /\b$column\b/;
	}
}
is_deeply(\@unnamed, [], 'every table, view and column of a view is named');
is_deeply(\@readable, [qw(active_tasks checkpoints conflicts document_tables housekeeping rejected_docs resolution_problems revisions scheduler_docs scheduler_jobs sources
		tables tombstone_holders)],
	'what PUBLIC may read is the views');

# ---- types, schemas, event triggers ----------------------------------------------

foreach my $row (
	rows(q{SELECT 'docrep.' || typname FROM pg_type WHERE typnamespace = 'docrep'::regnamespace
			AND typtype = 'b' AND typelem = 0
		UNION ALL SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'docrep%'
		UNION ALL SELECT 'docrep_data' UNION ALL SELECT 'docrep.rev_ops'}))
{
	like($page, qr/`\Q$row->[0]\E`/, "$row->[0] is named");
}

# ---- settings -------------------------------------------------------------------

my @settings = rows(q{SELECT name, boot_val, context FROM pg_settings WHERE name LIKE 'docrep.%'});
cmp_ok(scalar @settings, '>', 3, 'settings were looked at');
foreach my $row (@settings)
{
	my ($name, $default, $context) = @$row;
	like($page, qr/^\| `\Q$name\E` \| ?\Q$default\E ?\| \Q$context\E \|/m,
		"$name is listed with its default and context");
}
my %setting = map { $_->[0] => 1 } @settings;
is_deeply([ grep { !$setting{$_} } $page =~ /^\| `(docrep\.\w+)` \|/mg ], [],
	'every setting that is listed exists');

# ---- errors ---------------------------------------------------------------------

my @codes;
foreach my $define (slurp_file('src/store/errcodes.h') =~ /MAKE_SQLSTATE\(([^)]*)\)/g)
{
	push @codes, join '', $define =~ /'(.)'/g;
}
cmp_ok(scalar @codes, '>', 5, 'SQLSTATEs were looked at');
is_deeply([ grep { $page !~ /^\| `$_` \|/m } @codes ], [], 'every SQLSTATE is listed');

# ---- comments ---------------------------------------------------------------------

# Row types and array types belong to another object, operator families come with
# their class, and the companions of docrep.replicator are explained with their schema.
is( $node->safe_psql('postgres', q{
		SELECT string_agg(pg_describe_object(d.classid, d.objid, 0), ', ')
		FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE e.extname = 'docrep' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
			AND d.classid NOT IN ('pg_opfamily'::regclass)
			AND NOT (d.classid = 'pg_class'::regclass
				AND (SELECT relnamespace FROM pg_class WHERE oid = d.objid) = 'docrep_data'::regnamespace)
			AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (
				SELECT oid FROM pg_type WHERE typtype <> 'b' OR typelem <> 0))
			AND NOT (d.classid = 'pg_class'::regclass AND d.objid IN (
				SELECT oid FROM pg_class WHERE relkind NOT IN ('r', 'v', 'S')))
			AND obj_description(d.objid, d.classid::regclass::name) IS NULL}),
	'',
	'every object of the extension has a comment');
is( $node->safe_psql('postgres',
		q{SELECT obj_description(oid, 'pg_extension') <> '' FROM pg_extension WHERE extname = 'docrep'}),
	't',
	'and so has the extension');

done_testing();
