-- Adds access tokens, and revocations of access tokens; neither is ever taken back.
--
-- KEYS: 1 records, 2 revocations, 3 revision.
-- ARGV: 1 the revision that this begins if it changes anything, then for each token: its id, its record, and when it
-- was revoked (0: it is valid).
-- Answer: the revision that is in force.
--
-- Records and revocations are hashes by token id; a revocation is the first instant at which anybody revoked it. A
-- revision is a text that no other state ever had.

local changed = false
for i = 2, #ARGV, 3 do
    local id, record, revoked_at_ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    if redis.call('HSETNX', KEYS[1], id, record) == 1 then
        changed = true
    end
    if revoked_at_ms > 0 then
        local known = tonumber(redis.call('HGET', KEYS[2], id) or 0)
        if known == 0 or revoked_at_ms < known then
            redis.call('HSET', KEYS[2], id, ARGV[i + 2])
            changed = true
        end
    end
end
if changed then
    redis.call('SET', KEYS[3], ARGV[1])
end
return redis.call('GET', KEYS[3]) or ''
