-- Says that a server paces, and counts those that do, behind pace_now.lua.
--
-- KEYS: 1 pacers, a sorted set of owners by the instant at which they were last heard of.
-- ARGV: 1 owner, 2 instant or empty, 3 for how long somebody counts, in ms; 0: this one leaves.
-- Answer: how many there are.

local pacers = KEYS[1]
local now_ms, ttl_ms = instant(ARGV[2]), tonumber(ARGV[3])
if ttl_ms == 0 then
    redis.call('ZREM', pacers, ARGV[1])
else
    redis.call('ZADD', pacers, now_ms, ARGV[1])
    redis.call('ZREMRANGEBYSCORE', pacers, '-inf', string.format('(%.0f', now_ms - ttl_ms))
end
return redis.call('ZCARD', pacers)
