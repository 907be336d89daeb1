package dermedge.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Not a lesion, else refer, else answer; `decide` of `result.py`, its reasons as numbers so that a screen can say them. */
public final class Decision {
    /** What to do with the answer. */
    public enum Outcome {
        ANSWER("answer"),
        REFER("refer"),
        NOT_A_LESION("not_a_lesion");

        private final String text;

        Outcome(String text) {
            this.text = text;
        }

        @Override
        public String toString() {
            return text;
        }
    }

    /** A rule and the number that it looked at. */
    public static final class Finding {
        public final Contract.Rule rule;
        public final double value;

        Finding(Contract.Rule rule, double value) {
            this.rule = rule;
            this.value = value;
        }

        boolean fires() {
            boolean firesBelow = rule.measure.equals(Contract.Rule.TOP_SCORE);
            return firesBelow ? value < rule.threshold : value > rule.threshold;
        }

        @Override
        public String toString() {
            String relation = value < rule.threshold ? "below" : value > rule.threshold ? "above" : "at";
            return rule.measure + " " + Json.fixed(value, 3) + " is " + relation + " " + Json.general(rule.threshold);
        }
    }

    private final Outcome outcome;
    private final List<Finding> findings;

    private Decision(Outcome outcome, List<Finding> findings) {
        this.outcome = outcome;
        this.findings = Collections.unmodifiableList(findings);
    }

    static Decision decide(Contract contract, double[] scores) {
        List<Finding> passed = new ArrayList<Finding>();
        Outcome[] outcomes = {Outcome.NOT_A_LESION, Outcome.REFER};
        Contract.Rule[] rules = {contract.notALesion, contract.refer};
        for (int i = 0; i < rules.length; i++) {
            if (rules[i] != null) {
                Finding finding = new Finding(rules[i], Scores.measure(rules[i].measure, scores));
                if (finding.fires()) {
                    return new Decision(outcomes[i], Collections.singletonList(finding));
                }
                passed.add(finding);
            }
        }
        return new Decision(Outcome.ANSWER, passed);
    }

    public Outcome outcome() {
        return outcome;
    }

    /** The rule that fired, or all that did not. */
    public List<Finding> findings() {
        return findings;
    }

    /** As Python says it. */
    public String reason() {
        List<String> texts = new ArrayList<String>();
        for (Finding finding : findings) {
            texts.add(finding.toString());
        }
        return texts.isEmpty() ? "the model has no rule to refer" : ContractReader.join(texts);
    }
}
