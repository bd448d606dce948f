"""The closed lists of the SQL guard: functions, and kinds of node in DuckDB's parse tree.

A function belongs here when it touches no file, network, setting or system state, and its answer and time
grow no faster than its input.
"""

from __future__ import annotations

#: Aggregate and window functions.
_AGGREGATES = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_min
arg_min_null argmax argmin array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count count_if
count_star countif covar_pop covar_samp cume_dist dense_rank entropy favg fill first first_value
fsum geomean geometric_mean group_concat histogram json_group_array json_group_object kahan_sum
kurtosis kurtosis_pop lag last last_value lead list listagg mad max max_by mean median min min_by
mode nth_value ntile percent_rank product quantile quantile_cont quantile_disc rank regr_avgx
regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy row_number sem
skewness stddev stddev_pop stddev_samp string_agg sum sumkahan var_pop var_samp variance wavg
weighted_avg
"""

#: Numbers, comparisons and what operators are called in the tree.
_NUMBERS = """
!~~ !~~* % & && * ** + - -> ->> / // << <@ >> @> ^ ^@ | || ~ ~~ ~~* ~~~ abs acos add asin atan atan2
cbrt ceil ceiling cos cot degrees divide even exp fdiv floor fmod gcd greatest
greatest_common_divisor if isfinite isinf isnan lcm least least_common_multiple ln log log10 log2
mod multiply nullif pi pow power radians round round_even roundbankers sign signbit sin sqrt
subtract tan trunc xor
"""

#: Texts, hashes and identifiers.
_TEXTS = """
array_to_string ascii base64 bit_count bit_length char_length character_length chr concat concat_ws
contains decode encode ends_with format_bytes formatreadabledecimalsize formatreadablesize
from_base64 from_hex hamming hash hex ilike_escape instr lcase left left_grapheme len length
length_grapheme like_escape lower ltrim md5 mismatches nfc_normalize not_ilike_escape
not_like_escape octet_length ord overlay parse_dirname parse_dirpath parse_filename parse_path
position prefix regexp_escape regexp_extract regexp_extract_all regexp_full_match regexp_matches
regexp_replace regexp_split_to_array replace reverse right right_grapheme rtrim sha1 sha256 split
split_part starts_with str_split str_split_regex string_split string_split_regex string_to_array
strip_accents strlen strpos substr substring substring_grapheme suffix to_base64 to_hex translate
trim typeof ucase unhex unicode upper url_decode url_encode
"""

#: Times; ``timezone`` is what ``AT TIME ZONE`` becomes.
_TIMES = """
century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day
dayname dayofmonth dayofweek dayofyear days_in_month decade epoch epoch_ms epoch_ns epoch_us era
hour isodow isoyear julian last_day make_date make_time make_timestamp make_timestamp_ms
make_timestamptz microsecond millennium millisecond minute month monthname nanosecond quarter second
strftime strptime time_bucket timezone timezone_hour timezone_minute to_centuries to_days to_decades
to_hours to_microseconds to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds
to_timestamp to_weeks to_years try_strptime week weekday weekofyear year yearweek
"""

#: Lists, structs, maps and JSON.
_NESTED = """
apply array_apply array_contains array_distinct array_extract array_filter array_has array_has_all
array_has_any array_length array_position array_slice array_sort array_transform array_unique
cardinality element_at filter flatten from_json json json_array json_array_length json_contains
json_exists json_extract json_extract_path json_extract_path_text json_extract_string json_keys
json_merge_patch json_object json_pretty json_quote json_structure json_transform json_type
json_valid json_value list_aggregate list_any_value list_apply list_avg list_concat list_contains
list_count list_distinct list_element list_extract list_filter list_first list_has list_has_all
list_has_any list_indexof list_intersect list_last list_max list_median list_min list_mode
list_position list_reverse list_reverse_sort list_select list_slice list_sort list_string_agg
list_sum list_transform list_unique list_value list_where list_zip map map_contains map_entries
map_extract map_extract_value map_from_entries map_keys map_values row row_to_json struct_extract
struct_extract_at struct_insert struct_keys struct_pack struct_values to_json unnest
"""

#: Functions whose answer is the time of the call: a query may use them, a rule may not.
CLOCK = frozenset(
    [
        "current_date",
        "current_time",
        "current_timestamp",
        "get_current_timestamp",
        "localtime",
        "localtimestamp",
        "now",
        "today",
    ]
)

#: Functions that may be called.
FUNCTIONS = frozenset((_AGGREGATES + _NUMBERS + _TEXTS + _TIMES + _NESTED).split()) | CLOCK

#: Functions that make rows and may only stand in FROM, between two integers.
SERIES = frozenset(["generate_series", "range"])

#: Names that DuckDB takes for a call about the system even without brackets.
SYSTEM_NAMES = frozenset(
    ["current_catalog", "current_role", "current_schema", "current_user", "session_user", "user"]
)

_EXPRESSIONS = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR PARAMETER
POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW
"""

_CLAUSES = """
SELECT_NODE SET_OPERATION_NODE BASE_TABLE EMPTY EXPRESSION_LIST JOIN TABLE_FUNCTION
DISTINCT_MODIFIER LIMIT_MODIFIER ORDER_MODIFIER ASCENDING DESCENDING ORDER_DEFAULT
"""

#: Kinds of node that a statement may be made of.
NODES = frozenset((_EXPRESSIONS + _CLAUSES).split())
JOINS = frozenset(["ASOF", "CROSS", "NATURAL", "REGULAR"])

#: What is refused, in people's words.
SPOKEN = {
    "MULTI": "PIVOT",
    "PIVOT": "PIVOT or UNPIVOT",
    "RECURSIVE_CTE_NODE": "a recursive WITH",
    "SHOW_REF": "DESCRIBE, SHOW or SUMMARIZE",
}
