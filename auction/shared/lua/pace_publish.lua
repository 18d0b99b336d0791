-- Publishes the multipliers of a shard and renews its lease, if this owner still has it, behind pace_now.lua.
--
-- KEYS: 1 lease (see pace_claim.lua), 2 plan, 3 memory, 4 told.
-- ARGV: 1 owner, 2 fence, 3 instant or empty, 4 for how long the lease is renewed, in ms; 0: it is given back,
--       5 plan, 6 memory (either may be empty: the one before stays), 7 number of the last message that was taken,
--       8 for how long plan and memory are kept, in ms.
-- Answer: {number of the first message, messages not taken yet}; nothing to who has not the lease. A lease that ran out
-- is renewed all the same while nobody else has taken it: fences order publications, not clocks.

local lease, told = KEYS[1], KEYS[4]
local found = redis.call('HMGET', lease, 'owner', 'fence', 'pushed')
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then
    return nil
end
local ttl_ms = tonumber(ARGV[4])
if ttl_ms == 0 then
    redis.call('HSET', lease, 'owner', '', 'until_ms', 0)
else
    redis.call('HSET', lease, 'until_ms', string.format('%.0f', instant(ARGV[3]) + ttl_ms))
end
redis.call('HINCRBY', lease, 'serial', 1)
if ARGV[5] ~= '' then
    redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[8])
end
if ARGV[6] ~= '' then
    redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[8])
end
local pushed, length, last_taken = tonumber(found[3] or 0), redis.call('LLEN', told), tonumber(ARGV[7])
local first = pushed - length + 1
local taken = 0
if last_taken <= pushed then  -- else this Redis lost what was taken, and counts anew
    taken = math.min(math.max(last_taken - first + 1, 0), length)
end
redis.call('LTRIM', told, taken, -1)
return {first + taken, redis.call('LRANGE', told, 0, -1)}
