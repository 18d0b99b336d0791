-- Adds entries behind the end of a stream of judged rows, if it still ends where its origin saw it end: a failover may
-- have taken its last entries away, and what came behind the hole could be read by nobody.
--
-- KEYS: 1 stream.
-- ARGV: 1 id of its last entry; "": begin anew, whatever is there. 2 entries that end before this row are dropped.
--       3 it is gone after so many ms without an addition, 0: never. Then of each entry: id, rows, judgements.
-- Answer: 1 if the entries were added, 0 if the stream ends elsewhere.

local key, expected = KEYS[1], ARGV[1]
if expected == "" then
  redis.call("DEL", key)
else
  local last = redis.call("XREVRANGE", key, "+", "-", "COUNT", 1)
  if not last[1] or last[1][1] ~= expected then
    return 0
  end
end
for i = 4, #ARGV, 3 do
  redis.call("XADD", key, ARGV[i], "rows", ARGV[i + 1], "judgements", ARGV[i + 2])
end
redis.call("XTRIM", key, "MINID", ARGV[2] .. "-0")
if ARGV[3] ~= "0" then
  redis.call("PEXPIRE", key, ARGV[3])
end
return 1
