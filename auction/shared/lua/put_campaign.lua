-- Replaces one campaign's record, if it is still the one that the caller saw.
--
-- KEYS: 1 records, 2 marks, 3 changes, 4 idempotency keys, 5 open campaigns of the creator.
-- ARGV: 1 campaign_id, 2 mark of the record that is to be replaced (empty: there is none), 3 the new record's mark,
-- 4 the new record, 5 field of its idempotency key (empty: none), 6 1 if it is open and 0 if it has ended,
-- 7 how many open campaigns its creator may have (0: not asked; else it is a new campaign, whose key must be free),
-- 8 how many changes are kept.
-- Answer: {'done', the entry in the stream (empty: it was done before)}, {'changed', the mark that was found}, {'key', id of the campaign that has the key} or
-- {'limit', how many are open}; only 'done' wrote anything.
--
-- Records and marks are hashes by campaign_id. A change is an entry of the stream with the fields id and mark.

local records, marks, changes, keys, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, expected, mark, key, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[7])

local found = redis.call('HGET', marks, id) or ''
if found == mark then
    return {'done', ''}
end
if found ~= expected then
    return {'changed', found}
end
local holder = key ~= '' and redis.call('HGET', keys, key)
if limit > 0 then
    if holder and holder ~= id then
        return {'key', holder}
    end
    local count = redis.call('SCARD', open)
    if count >= limit then
        return {'limit', count}
    end
end

redis.call('HSET', records, id, ARGV[4])
redis.call('HSET', marks, id, mark)
if key ~= '' and not holder then
    redis.call('HSET', keys, key, id)
end
if ARGV[6] == '1' then
    redis.call('SADD', open, id)
else
    redis.call('SREM', open, id)
end
return {'done', redis.call('XADD', changes, 'MAXLEN', '~', ARGV[8], '*', 'id', id, 'mark', mark)}
