# The extension loads; and without shared_preload_libraries it says what to set.
use strict;
use warnings;

use DocrepTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('good', databases => [ 'one', 'two' ]);

my ($version) = slurp_file('docrep.control') =~ /^default_version\s*=\s*'(.*)'/m;
foreach my $db ('one', 'two')
{
	is( $node->safe_psql($db, q{SELECT extversion, nspname FROM pg_extension e
			JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'docrep'}),
		"$version|pg_catalog",
		"the extension is there in database $db, and needs no schema of the user's");
}

$node->safe_psql('one', q{SELECT docrep.create_table('orders')});
is( $node->safe_psql('one', q{SELECT count(*) FROM orders}),
	'0', 'a document table can be made and read');

# An install script that leaves something of itself outside the extension would
# make DROP EXTENSION forget it, and the second CREATE EXTENSION fail.
$node->safe_psql('two', 'DROP EXTENSION docrep CASCADE');
$node->safe_psql('two', 'CREATE EXTENSION docrep');
pass('the extension can be dropped and made again');

# The same server without the library preloaded.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my ($state, $message) =
  sqlstate($node, 'one', q{SELECT docrep.create_table('more')});
isnt($state, '', 'create_table fails without shared_preload_libraries');
like($message, qr/shared_preload_libraries/, 'and the error says what to set');
is($node->safe_psql('one', 'SELECT 1'), '1', 'the server is well');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'docrep'");
$node->restart;
$node->safe_psql('one', q{SELECT docrep.create_table('more')});
pass('create_table works again once it is set');

done_testing();
