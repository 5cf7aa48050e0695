-- The curriculum store: what a run's journal says, as tables. docs/store.md asks it questions.
--
-- Nothing here is truth: the journal is, and all of this is made from it. A column `number` counts in the order of the
-- journal. A column that ends in _text refers to `texts`; the views at the end give the words themselves.

-- How much of the journal is here: moved in the transaction that adds a record.
CREATE TABLE mark (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    records INTEGER NOT NULL,
    checksum TEXT NOT NULL          -- of the last of them, and so of all
) STRICT;

INSERT INTO mark VALUES (1, 0, '');

-- Every text once. `data` is UTF-8, compressed by zlib if that made it shorter than `size`; the name of the function that
-- undoes it, sqlar_uncompress(data, size), is that of SQLite's own, which its shell brings along.
CREATE TABLE texts (
    number INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,    -- of the uncompressed bytes
    size INTEGER NOT NULL,          -- bytes uncompressed
    data BLOB NOT NULL
) STRICT;

-- What the run was begun with; again where it went on with other settings.
CREATE TABLE starts (
    number INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,          -- iterations done before
    recipe TEXT NOT NULL,
    steps INTEGER NOT NULL,         -- iterations it was asked for
    package TEXT NOT NULL,          -- version of gasp-rl
    config_text INTEGER NOT NULL REFERENCES texts,     -- every setting, JSON
    digests TEXT NOT NULL,          -- JSON: SHA-256 of prompts, embedder, model and problem files
    ending TEXT CHECK (ending IN ('finished', 'stopped')),  -- NULL while it runs, or where it was killed
    reason TEXT
) STRICT;

CREATE TABLE goalposts (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    statement_text INTEGER REFERENCES texts,
    source TEXT,
    difficulty TEXT
) STRICT;

CREATE TABLE iterations (
    step INTEGER PRIMARY KEY,
    goalposts_drawn INTEGER NOT NULL    -- since the run began
) STRICT;

-- A budget or the health monitor changed the run's course after this iteration.
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,
    step INTEGER NOT NULL REFERENCES iterations,
    course TEXT NOT NULL,           -- stop, or the name of what was switched
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE phases (
    step INTEGER NOT NULL REFERENCES iterations,
    phase INTEGER NOT NULL,         -- its place in the iteration, from 0
    name TEXT NOT NULL,             -- lemma, lift, practice, ...
    sampled_tokens INTEGER NOT NULL,
    dissimilarity REAL,             -- of what was accepted from what had been accepted before (arXiv:2603.15957 Eq. 7)
    PRIMARY KEY (step, phase)
) STRICT, WITHOUT ROWID;

-- Optimizer steps. A number that was not finite is NULL if it was no number at all.
CREATE TABLE updates (
    step INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    rollouts INTEGER NOT NULL,      -- with a non-zero advantage
    tokens INTEGER NOT NULL,        -- that carried a gradient
    mean_reward REAL,
    loss REAL,
    grad_norm REAL,                 -- before clipping
    entropy REAL,                   -- nats per token
    ratio_max REAL,                 -- largest |log ratio| between learner and sampler
    skipped INTEGER NOT NULL,       -- 1: nothing to learn from, or a gradient that was not finite
    PRIMARY KEY (step, phase),
    FOREIGN KEY (step, phase) REFERENCES phases
) STRICT, WITHOUT ROWID;

-- Whatever the teacher wrote, accepted or not.
CREATE TABLE proposals (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    step INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    rung TEXT NOT NULL,             -- lemma, lift, ...; of a free proposal the kind of task
    axis TEXT,                      -- io or f
    goalpost TEXT REFERENCES goalposts (id),            -- at the top of its ladder
    parent INTEGER REFERENCES proposals,                -- the rung below; NULL where it was made from the goalpost
    prompt TEXT NOT NULL,           -- digest of what the teacher was asked
    completion_text INTEGER REFERENCES texts,           -- as written
    message_text INTEGER REFERENCES texts,
    program_text INTEGER REFERENCES texts,
    pairs_text INTEGER REFERENCES texts,                -- JSON: [[input, output], ...]
    rejection TEXT,                 -- NULL: accepted; else malformed, unsafe, invalid, duplicate, too_hard, ...
    detail TEXT NOT NULL,           -- why, in words
    similarity REAL NOT NULL,       -- cosine to the nearest item ever accepted; 0 where the check was not reached
    neighbour INTEGER REFERENCES proposals,             -- that item
    passes INTEGER NOT NULL,        -- of so many tries of the student
    tries INTEGER NOT NULL,
    reward REAL,
    tokens INTEGER NOT NULL,        -- of the completion
    FOREIGN KEY (step, phase) REFERENCES phases
) STRICT;

CREATE INDEX proposals_by_id ON proposals (id);
CREATE INDEX proposals_by_phase ON proposals (step, phase);
CREATE INDEX proposals_by_goalpost ON proposals (goalpost, rejection, step);
CREATE INDEX proposals_by_parent ON proposals (parent);

-- Whatever the student wrote: its tries at a proposal, which measure the pass rate, and its practice.
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('try', 'practice')),
    kind TEXT NOT NULL,             -- induction, deduction, abduction, problem
    proposal INTEGER REFERENCES proposals,              -- what the task was made from
    problem TEXT,                   -- or the real problem
    completion_text INTEGER REFERENCES texts,
    judgement TEXT NOT NULL,        -- correct, wrong, malformed, sandbox_fault
    detail TEXT NOT NULL,
    reward REAL,
    tokens INTEGER NOT NULL,
    FOREIGN KEY (step, phase) REFERENCES phases,
    CHECK (proposal IS NULL OR problem IS NULL)
) STRICT;

CREATE INDEX answers_by_phase ON answers (step, phase);
CREATE INDEX answers_by_proposal ON answers (proposal);

CREATE TABLE evaluations (
    number INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,          -- iterations trained before it; 0: the base model
    split TEXT NOT NULL,            -- validation, goalposts, ...; matched_base: the base model's draws at the end
    temperature REAL NOT NULL,
    sampled_tokens INTEGER NOT NULL
) STRICT;

CREATE TABLE scores (
    number INTEGER PRIMARY KEY,
    evaluation INTEGER NOT NULL REFERENCES evaluations,
    problem TEXT NOT NULL,
    samples INTEGER NOT NULL,
    passes INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,     -- passing samples whose program passed again in a fresh sandbox
    program_text INTEGER REFERENCES texts,              -- one of these programs
    truncated INTEGER NOT NULL,     -- samples cut off at the token limit
    empty INTEGER NOT NULL,         -- samples without a word
    unreadable INTEGER NOT NULL,    -- samples in which no program was found, the empty ones included
    tokens INTEGER NOT NULL         -- sampled for this problem
) STRICT;

CREATE INDEX scores_by_evaluation ON scores (evaluation);
CREATE INDEX scores_by_problem ON scores (problem);


-- Views

CREATE VIEW plain_texts AS
SELECT number, CAST(sqlar_uncompress(data, size) AS TEXT) AS text FROM texts;

CREATE VIEW plain_goalposts AS
SELECT id, (SELECT text FROM plain_texts t WHERE t.number = statement_text) AS statement, source, difficulty
FROM goalposts;

CREATE VIEW plain_proposals AS
SELECT p.number, p.id, p.step, p.rung, p.axis, p.goalpost,
    (SELECT below.id FROM proposals below WHERE below.number = p.parent) AS parent,
    (SELECT text FROM plain_texts t WHERE t.number = p.message_text) AS message,
    (SELECT text FROM plain_texts t WHERE t.number = p.program_text) AS program,
    (SELECT text FROM plain_texts t WHERE t.number = p.completion_text) AS completion,
    p.rejection, p.detail, p.similarity,
    (SELECT near.id FROM proposals near WHERE near.number = p.neighbour) AS neighbour,
    p.passes, p.tries, p.reward, p.prompt, p.tokens
FROM proposals p;

CREATE VIEW pairs AS
SELECT p.number AS proposal, pair.key AS place,
    json_extract(pair.value, '$[0]') AS input, json_extract(pair.value, '$[1]') AS output
FROM proposals p
JOIN plain_texts t ON t.number = p.pairs_text
JOIN json_each(t.text) pair;

CREATE VIEW plain_answers AS
SELECT a.number, a.step, a.purpose, a.kind, a.proposal, coalesce(a.problem, p.id) AS source,
    (SELECT text FROM plain_texts t WHERE t.number = a.completion_text) AS completion,
    a.judgement, a.detail, a.reward, a.tokens
FROM answers a
LEFT JOIN proposals p ON p.number = a.proposal;

CREATE VIEW plain_scores AS
SELECT e.step, e.split, e.temperature, s.problem, s.samples, s.passes, s.confirmed,
    s.truncated, s.empty, s.unreadable, s.tokens,
    (SELECT text FROM plain_texts t WHERE t.number = s.program_text) AS program
FROM scores s
JOIN evaluations e ON e.number = s.evaluation;

-- How far each goalpost has come, and the first iteration of each state: drawn (a lemma of it was asked for), climbed (one
-- was accepted), solved (a program that passed all tests passed them again), solid (two such solves: one may be luck).
CREATE VIEW goalpost_states AS
SELECT id,
    CASE
        WHEN solid IS NOT NULL THEN 'solid'
        WHEN solved IS NOT NULL THEN 'solved'
        WHEN climbed IS NOT NULL THEN 'climbed'
        WHEN drawn IS NOT NULL THEN 'drawn'
        ELSE 'untouched'
    END AS state,
    drawn, climbed, solved, solid
FROM goalposts
LEFT JOIN (
    SELECT goalpost, min(step) AS drawn, min(CASE WHEN rejection IS NULL THEN step END) AS climbed
    FROM proposals
    GROUP BY goalpost
) ON goalpost = id
LEFT JOIN (
    SELECT problem, min(CASE WHEN total > 0 THEN step END) AS solved, min(CASE WHEN total > 1 THEN step END) AS solid
    FROM solves
    GROUP BY problem
) ON problem = id
ORDER BY number;

-- Confirmed solves of each goalpost by the trained model, summed up to each evaluation.
CREATE VIEW solves AS
SELECT s.problem, e.step, sum(s.confirmed) OVER (PARTITION BY s.problem ORDER BY s.number) AS total
FROM scores s
JOIN evaluations e ON e.number = s.evaluation
WHERE e.split = 'goalposts' AND e.step > 0;

-- Accepted proposals above one another: `depth` 1 was made from the goalpost; ordered by `path`, each follows what it was
-- made from.
CREATE VIEW ladders AS
WITH RECURSIVE rungs (goalpost, depth, path, number) AS (
    SELECT goalpost, 1, printf('%09d', number), number
    FROM proposals
    WHERE goalpost IS NOT NULL AND parent IS NULL AND rejection IS NULL
    UNION ALL
    SELECT below.goalpost, below.depth + 1, below.path || '/' || printf('%09d', p.number), p.number
    FROM rungs below
    JOIN proposals p ON p.parent = below.number
    WHERE p.rejection IS NULL
)
SELECT r.goalpost, r.depth, r.path, p.number, p.id, p.step, p.rung, p.axis, p.passes, p.tries, p.reward,
    (SELECT text FROM plain_texts t WHERE t.number = p.message_text) AS message
FROM rungs r
JOIN proposals p ON p.number = r.number;

-- How many proposals are left after each check, in the order of the checks (arXiv:2603.15957 §3.3.1).
CREATE VIEW funnels AS
SELECT step, rung,
    count(*) AS written,
    sum(checks >= 1) AS could_be_read,
    sum(checks >= 2) AS allowed,
    sum(checks >= 3) AS ran,
    sum(checks >= 4) AS gave_the_same_twice,
    sum(checks >= 5) AS were_new,
    sum(checks >= 6) AS accepted
FROM (
    SELECT step, rung,
        CASE rejection
            WHEN 'malformed' THEN 0
            WHEN 'unsafe' THEN 1
            WHEN 'invalid' THEN 2
            WHEN 'sandbox_fault' THEN 2
            WHEN 'nondeterministic' THEN 3
            WHEN 'duplicate' THEN 4
            WHEN 'too_hard' THEN 5
            WHEN 'too_easy' THEN 5
            WHEN 'contaminated' THEN 5
            WHEN 'quarantined' THEN 5
            ELSE 6
        END AS checks
    FROM proposals
)
GROUP BY step, rung;
