"""The words of the demo market. Its pay and shares of remote work are plausible, not measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Occupation:
    """A family of jobs.

    Attributes:
        role: what one who holds it is called, in running text.
        titles: what its postings are called.
        skills: hard skills; the same words in neighbouring families mean the same skill.
        soft_skills: what its postings ask for besides.
        near: roles that people come from or change to.
        pay: typical yearly pay at mid level, EUR.
        remote: shares of postings that are fully remote, hybrid and on site.
    """

    role: str
    titles: tuple[str, ...]
    skills: tuple[str, ...]
    soft_skills: tuple[str, ...]
    near: tuple[str, ...]
    pay: int
    remote: tuple[float, float, float]


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_ANYWHERE = (0.4, 0.5, 0.1)
_OFFICE = (0.1, 0.6, 0.3)
_ON_SITE = (0.0, 0.05, 0.95)

OCCUPATIONS = (
    Occupation(
        "data engineer",
        _words("Data Engineer, Analytics Engineer, ETL Developer, Data Platform Engineer"),
        _words(
            "Python, SQL, Apache Spark, Airflow, dbt, Kafka, Snowflake, BigQuery, data modelling, ETL"
            " pipelines, AWS, Docker, Terraform, PostgreSQL, data quality testing, Scala"
        ),
        _words("problem solving, attention to detail, ownership, teamwork, clear documentation"),
        _words("data scientist, backend developer, cloud engineer"),
        58_000,
        _ANYWHERE,
    ),
    Occupation(
        "data scientist",
        _words("Data Scientist, Machine Learning Engineer, Data Analyst, Applied Scientist"),
        _words(
            "Python, SQL, machine learning, statistics, pandas, scikit-learn, PyTorch, A/B testing, data"
            " visualisation, natural language processing, time series forecasting, Apache Spark, feature"
            " engineering, R, Tableau"
        ),
        _words("curiosity, analytical thinking, storytelling with numbers, teamwork, critical thinking"),
        _words("data engineer, marketing specialist, financial controller"),
        60_000,
        _ANYWHERE,
    ),
    Occupation(
        "backend developer",
        _words("Backend Developer, Java Developer, Python Developer, Software Engineer, API Developer"),
        _words(
            "Java, Python, Go, Spring Boot, REST APIs, PostgreSQL, MongoDB, Docker, Kubernetes,"
            " microservices, unit testing, Git, Redis, Kafka, system design, SQL"
        ),
        _words("problem solving, teamwork, code review culture, ownership, clear communication"),
        _words("frontend developer, data engineer, cloud engineer"),
        57_000,
        _ANYWHERE,
    ),
    Occupation(
        "frontend developer",
        _words("Frontend Developer, React Developer, Web Developer, Mobile App Developer"),
        _words(
            "JavaScript, TypeScript, React, Vue.js, HTML and CSS, responsive design, Next.js, web"
            " accessibility, GraphQL, REST APIs, unit testing, Git, Figma, web performance, React Native"
        ),
        _words("creativity, attention to detail, teamwork, empathy for users, clear communication"),
        _words("backend developer, UX designer"),
        51_000,
        _ANYWHERE,
    ),
    Occupation(
        "cloud engineer",
        _words("DevOps Engineer, Cloud Engineer, Site Reliability Engineer, Systems Administrator"),
        _words(
            "Linux, AWS, Azure, Kubernetes, Docker, Terraform, Ansible, CI/CD pipelines, Prometheus,"
            " networking, Bash scripting, Python, incident response, identity management, Git"
        ),
        _words("calm under pressure, problem solving, ownership, clear documentation, teamwork"),
        _words("backend developer, data engineer"),
        60_000,
        _ANYWHERE,
    ),
    Occupation(
        "UX designer",
        _words("UX Designer, Product Designer, UI Designer, UX Researcher"),
        _words(
            "Figma, user research, wireframing, prototyping, design systems, usability testing,"
            " interaction design, web accessibility, visual design, Adobe Creative Suite, information"
            " architecture, HTML and CSS, journey mapping"
        ),
        _words("creativity, empathy for users, openness to feedback, teamwork, storytelling"),
        _words("frontend developer, product manager, marketing specialist"),
        49_000,
        _ANYWHERE,
    ),
    Occupation(
        "product manager",
        _words("Product Manager, Product Owner, Digital Product Lead, Scrum Master"),
        _words(
            "product strategy, roadmapping, user stories, Scrum, stakeholder management, A/B testing,"
            " market research, backlog prioritisation, Jira, user research, SQL, product analytics,"
            " pricing, OKRs"
        ),
        _words("leadership, negotiation, clear communication, decision making, empathy for users"),
        _words("UX designer, project manager, marketing specialist"),
        62_000,
        _OFFICE,
    ),
    Occupation(
        "project manager",
        _words("Project Manager, Programme Coordinator, PMO Analyst, Construction Project Manager"),
        _words(
            "project planning, budgeting, risk assessment, stakeholder management, Scrum, PRINCE2, MS"
            " Project, Jira, change management, procurement, reporting, contract management, resource"
            " planning"
        ),
        _words("leadership, organisation, negotiation, calm under pressure, clear communication"),
        _words("product manager, logistics coordinator, mechanical engineer"),
        55_000,
        _OFFICE,
    ),
    Occupation(
        "marketing specialist",
        _words("Marketing Specialist, Content Marketer, SEO Specialist, Social Media Manager, Growth Marketer"),
        _words(
            "SEO, content marketing, Google Analytics, paid search, social media campaigns, copywriting,"
            " email marketing, brand management, CRM, market research, A/B testing, Adobe Creative Suite,"
            " HubSpot, event planning"
        ),
        _words("creativity, clear communication, storytelling, teamwork, adaptability"),
        _words("sales representative, product manager, UX designer"),
        42_000,
        _OFFICE,
    ),
    Occupation(
        "sales representative",
        _words("Sales Representative, Account Manager, Business Developer, Key Account Manager, Inside Sales Agent"),
        _words(
            "B2B sales, lead generation, CRM, Salesforce, contract negotiation, account management, cold"
            " calling, sales forecasting, product demonstrations, pricing, market research, customer"
            " service, tender writing"
        ),
        _words("persuasion, resilience, negotiation, customer focus, self-motivation"),
        _words("marketing specialist, customer service agent"),
        46_000,
        _OFFICE,
    ),
    Occupation(
        "financial controller",
        _words("Financial Controller, Accountant, Financial Analyst, Payroll Accountant, Auditor"),
        _words(
            "bookkeeping, financial reporting, IFRS, budgeting, Excel, SAP, month-end closing, tax"
            " returns, cost control, payroll, internal audit, accounts payable, sales forecasting, Power"
            " BI, cash flow management"
        ),
        _words("integrity, attention to detail, analytical thinking, organisation, discretion"),
        _words("HR generalist, data scientist"),
        50_000,
        _OFFICE,
    ),
    Occupation(
        "HR generalist",
        _words("HR Generalist, Recruiter, Talent Acquisition Specialist, HR Business Partner, Training Coordinator"),
        _words(
            "recruiting, candidate interviewing, onboarding, labour law, payroll, employee relations, HR"
            " software, training and development, performance reviews, employer branding, workforce"
            " planning, Excel, GDPR"
        ),
        _words("discretion, empathy, clear communication, organisation, conflict resolution"),
        _words("financial controller, customer service agent"),
        43_000,
        _OFFICE,
    ),
    Occupation(
        "customer service agent",
        _words("Customer Service Agent, Technical Support Agent, Call Centre Agent, Customer Success Manager"),
        _words(
            "customer service, complaint handling, ticketing systems, CRM, telephone support, live chat,"
            " order processing, Zendesk, product training, data entry, troubleshooting, multilingual"
            " support, Excel"
        ),
        _words("patience, empathy, customer focus, calm under pressure, active listening"),
        _words("sales representative, HR generalist, logistics coordinator"),
        32_000,
        _OFFICE,
    ),
    Occupation(
        "logistics coordinator",
        _words("Logistics Coordinator, Supply Chain Planner, Warehouse Supervisor, Procurement Specialist"),
        _words(
            "supply chain planning, inventory management, procurement, SAP, warehouse management,"
            " transport scheduling, customs clearance, order processing, forklift licence, demand"
            " forecasting, Excel, cost control, lean methods, supplier negotiation"
        ),
        _words("organisation, problem solving, calm under pressure, teamwork, negotiation"),
        _words("project manager, customer service agent, mechanical engineer"),
        40_000,
        _ON_SITE,
    ),
    Occupation(
        "mechanical engineer",
        _words("Mechanical Engineer, Design Engineer, Production Engineer, Quality Engineer, CAD Designer"),
        _words(
            "SolidWorks, AutoCAD, finite element analysis, manufacturing processes, lean methods,"
            " technical drawing, quality management, root cause analysis, materials science, prototyping,"
            " PLC programming, tolerancing, project planning, CNC machining"
        ),
        _words("problem solving, attention to detail, teamwork, analytical thinking, ownership"),
        _words("electrician, project manager, logistics coordinator"),
        53_000,
        (0.0, 0.4, 0.6),
    ),
    Occupation(
        "electrician",
        _words("Electrician, Maintenance Technician, Solar Panel Installer, Automation Technician"),
        _words(
            "electrical installation, wiring, PLC programming, preventive maintenance, fault diagnosis,"
            " safety standards, technical drawing, solar panel installation, control cabinets, hydraulics,"
            " welding, building automation, driving licence"
        ),
        _words("reliability, safety awareness, teamwork, physical stamina, problem solving"),
        _words("mechanical engineer"),
        37_000,
        _ON_SITE,
    ),
    Occupation(
        "nurse",
        _words("Registered Nurse, Intensive Care Nurse, Community Nurse, Nursing Assistant, Surgical Nurse"),
        _words(
            "patient care, medication administration, wound care, vital signs monitoring, care planning,"
            " infection control, electronic health records, first aid, intensive care, elderly care,"
            " triage, patient education, shift work"
        ),
        _words("empathy, calm under pressure, patience, teamwork, physical stamina"),
        _words("teacher"),
        38_000,
        _ON_SITE,
    ),
    Occupation(
        "teacher",
        _words("Primary School Teacher, Maths Teacher, Language Teacher, Vocational Trainer, Kindergarten Teacher"),
        _words(
            "lesson planning, classroom management, curriculum design, student assessment, special needs"
            " education, e-learning platforms, parent communication, group facilitation, training and"
            " development, first aid, child development, tutoring, exam preparation"
        ),
        _words("patience, empathy, clear communication, creativity, organisation"),
        _words("HR generalist, nurse"),
        39_000,
        (0.05, 0.15, 0.8),
    ),
)

SECTORS = _words("Banking, Retail, Energy, Healthcare, Public Sector, Automotive, Start-up, Insurance")

# City -> level of pay beside the European average.
CITIES = {
    city: level
    for level, cities in (
        (1.15, "Amsterdam, Copenhagen, Dublin, Munich, Paris"),
        (1.0, "Berlin, Brussels, Hamburg, Lyon, Milan, Stockholm, Vienna"),
        (0.8, "Barcelona, Lisbon, Madrid, Prague, Warsaw"),
    )
    for city in _words(cities)
}
