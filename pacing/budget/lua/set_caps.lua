-- Opens a campaign's accounts, or changes their caps from one day on.
--
-- KEYS: 1 account, 2 epoch.
-- ARGV: 1 quarantine in ms, 2 creator_id, 3 zone, 4 daily cap, 5 total cap, 6 first day whose cap changes,
--       7 revision of the caps (0: of none), 8 whether there may be no account yet (0, 1), 9 the present instant in ms,
--       then the owner_id of everybody who joined.
-- Answer: {zone of the account, daily cap in force, total cap in force}. Nothing is written when the zone is another, or when
-- there is no account and may not be none (the zone is then empty); of the caps, nothing when the account has some of a higher
-- revision.
--
-- All who joined are entered in the epoch: any of them may be told of a charge, or have a lease granted, before a failover that
-- loses it, and others then wait for what they have to tell. While an epoch's charges are being told again, one who is not in it
-- may be missing because the failover lost that too; so it is entered as one who has yet to tell.
--
-- Account hash, amounts in micros: creator_id, zone, daily, total (caps asked for), settled, leased (of the flight),
-- over (over-delivered), revision, opened (when, in ms), hunger and hungry_owner (requests that got nothing for want of money; who
-- made the last), for each day cap:<day_key>, settled:<day_key>, leased:<day_key>, and told:<owner_id> (see settle.lua).

local account = KEYS[1]
local from_day, daily, total, revision = ARGV[6], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[7])

local found = {}
local flat = redis.call('HGETALL', account)
for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
end
if found.zone and found.zone ~= ARGV[3] then
    return {found.zone, 0, 0}
end

if not found.zone and ARGV[8] ~= '1' then
    return {'', 0, 0}
end

local function in_force(daily_cap, total_cap)
    local function amount(field)
        return tonumber(found[field] or 0)
    end
    local day_used = amount('settled:' .. from_day) + amount('leased:' .. from_day)
    return {ARGV[3], math.max(daily_cap, day_used), math.max(total_cap, amount('settled') + amount('leased'))}
end

local epoch = note_epoch(KEYS[2], tonumber(ARGV[1]))
local is_open = epoch.refused_ms > 0 or #epoch.behind > 0
local joined = {}
for i = 10, #ARGV do
    if not epoch.owners[ARGV[i]] then
        joined[#joined + 1] = 'owner:' .. ARGV[i]
        joined[#joined + 1] = is_open and epoch.number - 1 or epoch.number
    end
end
if #joined > 0 then
    redis.call('HSET', KEYS[2], unpack(joined))
end

local stored_revision = tonumber(found.revision or 0)
if revision > 0 and revision < stored_revision then
    return in_force(tonumber(found['cap:' .. from_day] or found.daily), tonumber(found.total))
end

local writes = {'daily', daily, 'total', total, 'revision', math.max(revision, stored_revision)}
if not found.zone then
    for _, word in ipairs({'creator_id', ARGV[2], 'zone', ARGV[3], 'settled', 0, 'leased', 0, 'over', 0, 'opened', ARGV[9]}) do
        writes[#writes + 1] = word
    end
end
found['cap:' .. from_day] = found['cap:' .. from_day] or ARGV[4]
for field in pairs(found) do
    local day_key = string.match(field, '^cap:(%d+)$')
    if day_key and tonumber(day_key) >= tonumber(from_day) then
        writes[#writes + 1] = field
        writes[#writes + 1] = daily
    end
end
redis.call('HSET', account, unpack(writes))

return in_force(daily, total)
