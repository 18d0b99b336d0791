-- Says what is left of leases of one campaign, in case a failover lost their grants or what was given back of them.
--
-- KEYS: 1 account, 2 ends, then leases.
-- ARGV: 1 campaign_id, 2 how long a tombstone is kept, in ms, 3 owner_id of the holder;
--       then per lease: lease_id, day_key, amount granted, left of it, start_at_ms, end_at_ms, closed (0, 1).
-- Answer: how many leases were changed.
--
-- A lease that is not there, or was rebuilt from a claim, gets back what is left, but for what was charged to it through others:
-- that is not the holder's any more, though the holder does not know it. One of which more seems to be left is cut
-- down to it; of one of which less is left, claims came that its holder does not know. Told again, it changes nothing.
-- Hashes: see set_caps.lua and acquire.lua.

local account, ends = KEYS[1], KEYS[2]
local found = redis.call('HMGET', account, 'daily', 'leased')
if not found[1] then
    return 0
end
local leased, changed = tonumber(found[2]), 0
local day_of, days = days_of(account, tonumber(found[1]))
local holder = tonumber(ARGV[3])

local function charged_through_others(key)
    local fields, sum = redis.call('HGETALL', key), 0
    for i = 1, #fields, 2 do
        if #fields[i] == 8 and string.sub(fields[i + 1], 17) == '1' and struct.unpack('<I2', fields[i + 1], 15) ~= holder then
            sum = sum + struct.unpack('<i8', fields[i + 1])
        end
    end
    return sum
end

for j = 1, #KEYS - 2 do
    local key, at = KEYS[j + 2], 4 + 7 * (j - 1)
    local lease_id, day_key, amount, left = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
    local stored = redis.call('HMGET', key, 'campaign_id', 'amount', 'remaining', 'closed', 'day_key')
    local is_lost = not stored[1] or tonumber(stored[2]) == 0
    local is_closed = ARGV[at + 6] == '1' or (not is_lost and stored[4] == '1')
    local remaining = tonumber(stored[3] or 0)
    if is_lost and stored[1] then
        left = math.max(0, left - charged_through_others(key))
    end
    local moved = is_lost and left or math.min(0, left - remaining)
    if (not stored[1] or stored[1] == ARGV[1]) and (moved ~= 0 or (stored[1] and is_closed and stored[4] ~= '1')) then
        local day = day_of(stored[5] or day_key)
        leased, day.leased, changed = leased + moved, day.leased + moved, changed + 1
        redis.call(
            'HSET', key, 'campaign_id', ARGV[1], 'day_key', stored[5] or day_key, 'amount', amount,
            'remaining', remaining + moved, 'start', ARGV[at + 4], 'end', ARGV[at + 5], 'closed', is_closed and 1 or 0
        )
        redis.call('PERSIST', key)
        redis.call('ZADD', ends, ARGV[at + 5], lease_id)
        if is_closed and remaining + moved == 0 then
            redis.call('PEXPIRE', key, ARGV[2])
            redis.call('ZREM', ends, lease_id)
        end
    end
end

local writes = {'leased', leased}
for day_key, day in pairs(days) do
    local at = #writes
    writes[at + 1], writes[at + 2] = 'cap:' .. day_key, day.cap
    writes[at + 3], writes[at + 4] = 'leased:' .. day_key, day.leased
end
redis.call('HSET', account, unpack(writes))
return changed
