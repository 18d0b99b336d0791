-- Entries of judged rows that continue what a consumer has, from the first stream that holds its next row.
--
-- KEYS: streams of one origin, the common one first.
-- ARGV: 1 the consumer's next row; 2 how many entries at most.
-- Answer: {{id, {"rows", rows, "judgements", judgements}}, ...}, ids as "LAST-FIRST" of the rows in the entry.

local next_row = tonumber(ARGV[1])
for _, key in ipairs(KEYS) do
  local found = redis.call("XRANGE", key, ARGV[1] .. "-0", "+", "COUNT", 1)
  if found[1] and tonumber(string.match(found[1][1], "-(%d+)$")) <= next_row then
    return redis.call("XRANGE", key, ARGV[1] .. "-0", "+", "COUNT", ARGV[2])
  end
end
return {}
