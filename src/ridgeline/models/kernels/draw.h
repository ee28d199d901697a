// Drawing a token per row, once per number format: kernels.c includes this file as it does kernels.h.
//
// Tokens are ordered by falling logit, equal ones by rising id. Whatever top-k, top-p and min-p keep is a beginning of
// that order, so that the place where it ends (struct border) says all. To find it without sorting a vocabulary, tokens
// are counted and weighed in bins of the distance to the best logit; only the bin that holds the end is sorted.

#ifndef DRAW_BINS
#define DRAW_BINS 2048
#define BINS_PER_UNIT 32.0f

struct candidate { float logit; int64_t id; };
// Kept are logits above `logit`, and equal ones up to `id`.
struct border { float logit; int64_t id; };

static int by_rank(const void *one, const void *other) {
    const struct candidate *a = one, *b = other;
    if (a->logit != b->logit) return a->logit > b->logit ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static inline int32_t bin_of(float logit, float best) {
    float distance = (best - logit) * BINS_PER_UNIT;
    return (int32_t)(distance < DRAW_BINS - 1 ? distance : DRAW_BINS - 1);
}
#endif

static inline void NAME(find_bins)(const REAL *line, int32_t length, float best, int32_t *bins) {
#pragma omp simd
    for (int32_t i = 0; i < length; i++) bins[i] = bin_of(READ(line[i]), best);
}

// The tokens of one bin, which are few: LANES of others at a time are passed over.
static int64_t NAME(collect)(const REAL *line, int64_t vocabulary, float best, int32_t bin, struct candidate *found) {
    int64_t number = 0;
    for (int64_t start = 0; start < vocabulary; start += DRAW_BLOCK) {
        int32_t length = vocabulary - start < DRAW_BLOCK ? vocabulary - start : DRAW_BLOCK, bins[DRAW_BLOCK];
        NAME(find_bins)(line + start, length, best, bins);
        for (int32_t i = length; i < DRAW_BLOCK; i++) bins[i] = -1;
        for (int32_t part = 0; part < length; part += LANES) {
            int32_t some = 0;
#pragma omp simd reduction(| : some)
            for (int32_t i = part; i < part + LANES; i++) some |= bins[i] == bin;
            for (int32_t i = part; some && i < part + LANES; i++) {
                if (bins[i] != bin || READ(line[start + i]) != READ(line[start + i])) continue; // NaN has no rank
                found[number++] = (struct candidate){READ(line[start + i]), start + i};
            }
        }
    }
    return number;
}

// The end of the beginning that is kept when a token stays while what lies before it is below `limit`: a number of
// tokens (`by_mass` 0) or a sum of exp((logit - best) / temperature) (`by_mass` 1).
static struct border NAME(find_border)(const REAL *line, int64_t vocabulary, float best, float inverse, int64_t by_mass,
                                       double limit) {
    double weights[DRAW_BINS], before = 0;
    int32_t counts[DRAW_BINS];
    memset(weights, 0, sizeof weights);
    memset(counts, 0, sizeof counts);
    for (int64_t start = 0; start < vocabulary; start += DRAW_BLOCK) {
        int32_t length = vocabulary - start < DRAW_BLOCK ? vocabulary - start : DRAW_BLOCK, bins[DRAW_BLOCK];
        float mass[DRAW_BLOCK];
        NAME(find_bins)(line + start, length, best, bins);
        if (by_mass) {
#pragma omp simd
            for (int32_t i = 0; i < length; i++) mass[i] = exp_((READ(line[start + i]) - best) * inverse);
            for (int32_t i = 0; i < length; i++) weights[bins[i]] += mass[i], counts[bins[i]]++;
        } else {
            for (int32_t i = 0; i < length; i++) counts[bins[i]]++;
        }
    }
    if (!by_mass)
        for (int64_t bin = 0; bin < DRAW_BINS; bin++) weights[bin] = counts[bin];
    int32_t bin = 0;
    while (bin < DRAW_BINS - 1 && before + weights[bin] < limit) before += weights[bin++];
    struct candidate *found = malloc((counts[bin] + 1) * sizeof *found);
    int64_t number = NAME(collect)(line, vocabulary, best, bin, found);
    qsort(found, number, sizeof *found, by_rank);
    struct border border = {-INFINITY, vocabulary}; // stays when NaN is among the masses
    for (int64_t i = 0; i < number && before < limit; i++) {
        border = (struct border){found[i].logit, found[i].id};
        before += by_mass ? exp_((found[i].logit - best) * inverse) : 1;
    }
    free(found);
    return border;
}

static inline struct border NAME(tighter)(struct border one, struct border other) {
    if (one.logit != other.logit) return one.logit > other.logit ? one : other;
    return one.id < other.id ? one : other;
}

// exp((logit - best) / temperature) of what is kept of one block, 0 of the rest, into `mass`; returns the sum. A NaN is
// kept, so that it shows in the log-prob.
static inline float NAME(weigh)(const REAL *line, int64_t block, int64_t vocabulary, float best, float inverse,
                                struct border kept, float *mass) {
    int64_t start = block * DRAW_BLOCK, ties = kept.id - start;
    int32_t length = vocabulary - start < DRAW_BLOCK ? vocabulary - start : DRAW_BLOCK;
    int32_t upto = ties < -1 ? -1 : (ties < DRAW_BLOCK ? ties : DRAW_BLOCK); // ids of ties, in 32 bits for the vectors
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < length; i++) {
        float logit = READ(line[start + i]), own = exp_((logit - best) * inverse);
        mass[i] = (logit < kept.logit) | ((logit == kept.logit) & (i > upto)) ? 0 : own;
        sum += mass[i];
    }
    return sum;
}

// What top-k, then top-p, then min-p leave of a row; 0, 1 and 0 turn them off.
static struct border NAME(support)(const REAL *line, int64_t vocabulary, float best, double temperature, int64_t top_k,
                                   double top_p, double min_p) {
    float inverse = 1 / temperature, mass[DRAW_BLOCK];
    struct border kept = {-INFINITY, vocabulary};
    if (top_k > 0 && top_k < vocabulary) kept = NAME(find_border)(line, vocabulary, best, inverse, 0, top_k);
    if (top_p < 1) {
        double total = 0;
        for (int64_t block = 0; block * DRAW_BLOCK < vocabulary; block++)
            total += NAME(weigh)(line, block, vocabulary, best, inverse, kept, mass);
        kept = NAME(tighter)(kept, NAME(find_border)(line, vocabulary, best, inverse, 1, top_p * total));
    }
    if (min_p > 0)
        kept = NAME(tighter)(kept, (struct border){best + (float)(temperature * log(min_p)), vocabulary});
    return kept;
}

// One token of one row by inverting the cumulative distribution, in order of ids, of softmax(logits / temperature) over
// what is kept, at `uniform`. Block sums come first, so that only one block is walked; returns the log-prob in nats.
static double NAME(draw_row)(const REAL *line, int64_t vocabulary, float best, float inverse, struct border kept,
                             double uniform, int64_t *token) {
    int64_t blocks = (vocabulary + DRAW_BLOCK - 1) / DRAW_BLOCK, last = 0, block = 0;
    float mass[DRAW_BLOCK];
    double total = 0, sums[blocks];
    for (int64_t each = 0; each < blocks; each++) {
        sums[each] = NAME(weigh)(line, each, vocabulary, best, inverse, kept, mass);
        total += sums[each];
        if (sums[each] > 0) last = each;
    }
    // The last block, and its last token, that has mass stays when rounding runs past the end.
    double left = uniform * total;
    while (block < last && left >= sums[block]) left -= sums[block++];
    NAME(weigh)(line, block, vocabulary, best, inverse, kept, mass);
    int64_t start = block * DRAW_BLOCK, chosen = start;
    for (int64_t i = 0; i < DRAW_BLOCK && start + i < vocabulary; i++) {
        if (mass[i] <= 0) continue;
        chosen = start + i;
        if (left < mass[i]) break;
        left -= mass[i];
    }
    *token = chosen;
    return ((double)READ(line[chosen]) - best) * inverse - log(total);
}

// One token per row at uniform[row]; temperature 0 takes the first of the best, with certainty.
void NAME(draw)(const REAL *logits, const double *uniform, int64_t *tokens, double *log_probs, int64_t rows,
                int64_t vocabulary, int64_t top_k, double temperature, double top_p, double min_p) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *line = logits + row * vocabulary;
        float best = READ(line[0]);
#pragma omp simd reduction(max : best)
        for (int64_t i = 0; i < vocabulary; i++) best = READ(line[i]) > best ? READ(line[i]) : best;
        if (temperature > 0) {
            struct border kept = NAME(support)(line, vocabulary, best, temperature, top_k, top_p, min_p);
            log_probs[row] = NAME(draw_row)(line, vocabulary, best, 1 / temperature, kept, uniform[row], tokens + row);
        } else {
            tokens[row] = 0, log_probs[row] = 0;
            while (tokens[row] < vocabulary - 1 && READ(line[tokens[row]]) != best) tokens[row]++;
        }
    }
}
