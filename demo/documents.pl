#!/usr/bin/perl
# Prints the documents of the demo, one JSON object a line: the languages,
# countries, subdivisions, currencies and scripts of Debian's package iso-codes,
# each with its translations into languages of many scripts as "names".
#
#   demo/documents.pl > atlas.jsonl
use strict;
use warnings;

use JSON::PP;

my $JSON_DIR   = '/usr/share/iso-codes/json';
my $LOCALE_DIR = '/usr/share/locale';

# Translations that are taken: a language for each of many scripts.
my @TRANSLATIONS = qw(am ar bn el gu he hi hy ja ka km kn ko ml my or pa ru si ta te th ti zh_CN zh_TW);

# The list in the file, the kind of document, the member that makes its id.
my @LISTS = (
	[ '639-3',  'language',    'alpha_3' ],
	[ '3166-1', 'country',     'alpha_2' ],
	[ '3166-2', 'subdivision', 'code' ],
	[ '4217',   'currency',    'alpha_3' ],
	[ '15924',  'script',      'alpha_4' ]);

# All of a file as bytes.
sub slurp
{
	my ($path) = @_;
	open my $file, '<:raw', $path or die "cannot read $path: $!\n";
	local $/ = undef;
	return scalar <$file>;
}

# The translations in a file of gettext's: English => translated.  The file
# begins with a magic number in the byte order of the numbers that follow:
# version, count, and where two tables of (length, offset) are, one of the
# originals and one of the translations.
sub read_translations
{
	my ($path) = @_;
	my $data   = slurp($path);
	my $long   = unpack('V', $data) == 0x950412de ? 'V' : 'N';
	my ($count, $from, $to) = unpack("x8 $long$long$long", $data);
	my %translated;

	foreach my $i (0 .. $count - 1)
	{
		my ($len, $at) = unpack("$long$long", substr($data, $from + 8 * $i, 8));
		my $original = substr($data, $at, $len);
		($len, $at) = unpack("$long$long", substr($data, $to + 8 * $i, 8));
		my $translation = substr($data, $at, $len);

		# the entry without an original is the file's header
		next if $len == 0 || $original eq '' || $original eq $translation;
		utf8::decode($original) && utf8::decode($translation) or next;
		$translated{$original} = $translation;
	}
	return \%translated;
}

my $json = JSON::PP->new->utf8->canonical;

foreach my $list (@LISTS)
{
	my ($standard, $kind, $key) = @$list;
	my $items = $json->decode(slurp("$JSON_DIR/iso_$standard.json"))->{$standard};
	my %translations;

	foreach my $language (@TRANSLATIONS)
	{
		my $path = "$LOCALE_DIR/$language/LC_MESSAGES/iso_$standard.mo";
		$translations{$language} = read_translations($path) if -f $path;
	}
	foreach my $item (@$items)
	{
		my %names;
		foreach my $language (keys %translations)
		{
			my $name = $translations{$language}{ $item->{name} };
			$names{$language} = $name if defined $name;
		}
		print $json->encode(
			{
				%$item,
				_id  => "$kind:$item->{$key}",
				kind => $kind,
				%names ? (names => \%names) : ()
			}),
		  "\n";
	}
}
