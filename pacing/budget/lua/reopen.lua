-- Opens an account anew that a failover lost, behind epoch.lua.
--
-- KEYS: 1 account, 2 epoch.
-- ARGV: 1 quarantine in ms, 2 creator_id, 3 zone, 4 daily cap, 5 total cap, 6 revision of the caps, 7 when it was opened, in ms,
--       then the owner_id of everybody who may have charged to it, or have leases of it.
-- Answer: 1, or 0 if the account is there.
--
-- What was leased and settled before is to be told again, so a new epoch begins, in which all of these owners are behind. The
-- epoch hash may be as lost as the account, and know none of them.
-- Hashes: see set_caps.lua and epoch.lua.

local account, key, quarantine_ms = KEYS[1], KEYS[2], tonumber(ARGV[1])
if redis.call('HGET', account, 'zone') then
    return 0
end
local epoch = note_epoch(key, quarantine_ms)
local writes = {
    'number', epoch.number + 1, 'since_ms', epoch.now_ms, 'refuse_until_ms', epoch.now_ms + quarantine_ms
}
for i = 8, #ARGV do
    if not epoch.owners[ARGV[i]] then
        writes[#writes + 1] = 'owner:' .. ARGV[i]
        writes[#writes + 1] = epoch.number
    end
end
redis.call('HSET', key, unpack(writes))
redis.call(
    'HSET', account, 'creator_id', ARGV[2], 'zone', ARGV[3], 'daily', ARGV[4], 'total', ARGV[5], 'revision', ARGV[6],
    'opened', ARGV[7], 'settled', 0, 'leased', 0, 'over', 0
)
return 1
