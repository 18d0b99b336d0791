-- Gives back a part of a lease.
--
-- KEYS: 1 account, 2 ends, 3 lease.
-- ARGV: 1 lease_id, 2 amount, 3 closed (0, 1), 4 serial of this release of this lease (0: not numbered),
--       5 how long a tombstone is kept, in ms, 6 campaign_id.
-- Answer: the amount given back; 0 where the lease is unknown, or another campaign's: an id whose grant nobody heard of may be
-- asked for again. The last serial told again gets its answer again and moves nothing.
-- Hashes: see set_caps.lua and acquire.lua.

local account, ends, lease = KEYS[1], KEYS[2], KEYS[3]
local serial = tonumber(ARGV[4])
local found = redis.call('HMGET', lease, 'day_key', 'remaining', 'closed', 'serial', 'answer', 'campaign_id')
if not found[1] or found[6] ~= ARGV[6] then
    return 0
end
local last = tonumber(found[4] or 0)
if serial > 0 and serial <= last then
    return serial == last and tonumber(found[5]) or 0
end

local remaining = tonumber(found[2])
local released = math.min(tonumber(ARGV[2]), remaining)
local is_closed = ARGV[3] == '1' or found[3] == '1'
remaining = remaining - released
redis.call('HSET', lease, 'remaining', remaining, 'closed', is_closed and 1 or 0)
if serial > 0 then
    redis.call('HSET', lease, 'serial', serial, 'answer', released)
end
local day_field = 'leased:' .. found[1]
local leased = redis.call('HMGET', account, 'leased', day_field)
if released > 0 and leased[1] then
    local left = math.max(0, tonumber(leased[1]) - released)
    redis.call('HSET', account, 'leased', left, day_field, math.max(0, tonumber(leased[2] or 0) - released))
end
if is_closed and remaining == 0 then
    redis.call('PEXPIRE', lease, ARGV[5])
    redis.call('ZREM', ends, ARGV[1])
end
return released
