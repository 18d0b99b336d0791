-- Takes back what is left of leases of one campaign that ended before an instant, and closes them; behind epoch.lua.
--
-- KEYS: 1 account, 2 ends, 3 epoch, then leases.
-- ARGV: 1 the instant in ms, 2 how long a tombstone is kept, in ms, 3 quarantine in ms, then the lease_id of each lease.
-- Answer: the amount taken back; -1: nothing now. After a failover claims wait until all owners have told what they have, and are
-- decided then, each by its own server: what is leased is what they are charged to, for a quarantine's time more.
-- Hashes: see set_caps.lua and acquire.lua.

local account, ends = KEYS[1], KEYS[2]
local before_ms, reclaimed = tonumber(ARGV[1]), 0
local epoch = note_epoch(KEYS[3], tonumber(ARGV[3]))
if epoch.refused_ms > 0 or #epoch.behind > 0 or epoch.now_ms < epoch.told_at_ms + tonumber(ARGV[3]) then
    return -1
end
for i = 4, #KEYS do
    local found = redis.call('HMGET', KEYS[i], 'day_key', 'remaining', 'end')
    if not found[1] then
        redis.call('ZREM', ends, ARGV[i])
    elseif tonumber(found[3]) < before_ms then
        local remaining, day_field = tonumber(found[2]), 'leased:' .. found[1]
        redis.call('HSET', KEYS[i], 'remaining', 0, 'closed', 1)
        local leased = redis.call('HMGET', account, 'leased', day_field)
        if remaining > 0 and leased[1] then
            local left = math.max(0, tonumber(leased[1]) - remaining)
            local day_left = math.max(0, tonumber(leased[2] or 0) - remaining)
            redis.call('HSET', account, 'leased', left, day_field, day_left)
        end
        redis.call('PEXPIRE', KEYS[i], ARGV[2])
        redis.call('ZREM', ends, ARGV[i])
        reclaimed = reclaimed + remaining
    end
end
return reclaimed
