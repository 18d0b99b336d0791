-- Takes the lease of a shard, if nobody has it, behind pace_now.lua.
--
-- KEYS: 1 lease, 2 memory of the pacer that had it last.
-- ARGV: 1 owner, 2 instant or empty, 3 for how long, in ms.
-- Answer: {fence, memory}, the memory empty for an owner that had the lease itself; nothing if another one has it.
--
-- Lease hash: owner, fence, until_ms; serial, that of the last publication; pushed, how many messages were ever told.
-- Each owner has another fence than all before it.

local lease = KEYS[1]
local now_ms = instant(ARGV[2])
local found = redis.call('HMGET', lease, 'owner', 'fence', 'until_ms')
local fence = tonumber(found[2] or 0)
local memory = ''
if found[1] ~= ARGV[1] then
    if found[1] and found[1] ~= '' and now_ms < tonumber(found[3]) then
        return nil
    end
    fence = fence + 1
    memory = redis.call('GET', KEYS[2]) or ''
end
redis.call('HSET', lease, 'owner', ARGV[1], 'fence', fence, 'until_ms', string.format('%.0f', now_ms + tonumber(ARGV[3])))
return {fence, memory}
